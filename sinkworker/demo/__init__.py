"""`sinkworker demo`: the whole system at work on one machine, and a judgement of what it did."""
