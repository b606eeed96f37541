"""Counts of every process, added up in Redis and served by the API as Prometheus text (contract §10)."""
