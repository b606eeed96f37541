"""sinkworker: KurrentDB to Kafka through a pool of Celery workers. Start with `ARCHITECTURE.md` beside this file."""

__version__ = "0.1.0"
