"""A worker that soon asks whether a connector still runs: `celery -A tests.faults.forgetful worker`."""

from sinkworker.delivery import outlet
from tasks import app

__all__ = ["app"]

outlet.UNUSED_S = outlet.ASKED_EVERY_S = 0.1
