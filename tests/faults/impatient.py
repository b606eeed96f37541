"""A worker whose tasks are redelivered while they run: `celery -A tests.faults.impatient worker`."""

from tasks import app

app.conf.broker_transport_options = {
    **app.conf.broker_transport_options,
    "visibility_timeout": 1,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}
