"""The one judge of every run of real processes: the log on one side, what Kafka holds on the other."""

from sinkworker.demo.judge import Verdict, judge
from sinkworker.demo.topic import Consumed, consume

__all__ = ["Consumed", "Verdict", "consume", "judge"]
