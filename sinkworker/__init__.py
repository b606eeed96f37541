"""sinkworker: KurrentDB to Kafka through a pool of Celery workers. Start with `ARCHITECTURE.md` beside this file."""
