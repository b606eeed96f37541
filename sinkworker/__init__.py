"""sinkworker: KurrentDB to Kafka through a pool of Celery workers. Start with `ARCHITECTURE.md` beside this file."""

from sinkworker.config import quieten_grpc

quieten_grpc()  # it heeds what is there when it is imported, by whichever module

__version__ = "0.1.0"
