"""From records to batches in lanes: keys, lanes, the scheduler role."""
