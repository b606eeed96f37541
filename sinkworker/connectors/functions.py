"""Settings whose JavaScript function cannot be used are refused before anything is written."""

from __future__ import annotations

from sinkworker.connectors.errors import InvalidSettings
from sinkworker.connectors.settings import FUNCTION_KEY, SinkSettings
from sinkworker.transform import check


def refuse_unusable(settings: SinkSettings) -> None:
    """Raises InvalidSettings, and Transient or Misconfigured where the function cannot be tried."""
    if settings.transform is not None and (problem := check.fault(settings.transform)):
        raise InvalidSettings({FUNCTION_KEY: [f"is no function to be used here: {problem}"]})
