"""What Celery's workers say of their tasks, as Flower hears it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from celery import Celery


@contextlib.contextmanager
def heard(redis_url: str, **handlers: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Inside, each of these events is handed to its handler: `task_received=…` for `task-received`."""
    app = Celery(broker=redis_url)
    with app.connection_for_read() as connection:
        named = {name.replace("_", "-"): handler for name, handler in handlers.items()}
        receiver = app.events.Receiver(connection, handlers=named)
        thread = threading.Thread(target=receiver.capture, kwargs={"wakeup": False}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            receiver.should_stop = True
            thread.join()
