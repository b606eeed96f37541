"""The JSON answers of the API."""

from __future__ import annotations

from fastapi.responses import JSONResponse


class Json(JSONResponse):
    """JSON with the content type that clients of the original see."""

    media_type = "application/json; charset=utf-8"
