"""Whether a function can be used at all, found out by loading it as a worker would."""

from __future__ import annotations

import threading

from sinkworker.transform.sandbox import Overrun, Rejected, Sandbox

_one_at_a_time = threading.Lock()
"""However many requests come in: each check may take a core and some hundred MB for a second."""


def fault(source: str) -> str | None:
    """Why the source is refused, None where it is not. Raises Transient or Misconfigured when that cannot be told."""
    with _one_at_a_time:
        try:
            Sandbox(source).close()
        except Rejected as exc:
            return str(exc)
        except Overrun as exc:
            return f"when it is loaded, before any record, it {exc}"
    return None
