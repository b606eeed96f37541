"""The Celery face of sinkworker: `celery -A tasks worker`, `celery -A tasks flower`."""

from tasks.app import app

__all__ = ["app"]
