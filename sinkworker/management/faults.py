"""How an error is answered: HTTP status, code and details (contract §1.6)."""

from __future__ import annotations

from typing import Any

from sinkworker.connectors.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sinkworker.errors import Invalid, SinkworkerError, Stale, Transient

_TYPE = "type.googleapis.com/google.rpc."


def answer(error: SinkworkerError) -> tuple[int, dict[str, Any]]:
    """Status and body. What nobody foresaw is an internal error, without its stack."""
    match error:
        case InvalidArgument():
            violations = [
                {"field": field, "description": text} for field, texts in error.violations.items() for text in texts
            ]
            details = [{"@type": f"{_TYPE}BadRequest", "fieldViolations": violations}]
            return 400, body(3, error.message, details)
        case NotFound():
            return 404, body(5, str(error), [_resource(error)])
        case AlreadyExists():
            return 409, body(6, str(error), [_resource(error)])
        case FailedPrecondition() | Stale():
            return 400, body(9, str(error))
        case Invalid():
            return 400, body(3, str(error))
        case Transient():
            return 503, body(14, str(error))
    return 500, internal(str(error))


def internal(message: str) -> dict[str, Any]:
    return body(13, message, [{"@type": f"{_TYPE}DebugInfo", "stackEntries": [], "detail": message}])


def anonymous() -> dict[str, Any]:
    """What a request without credentials is answered where some are needed."""
    reason = {"@type": f"{_TYPE}ErrorInfo", "reason": "PERMISSION_DENIED", "domain": "authorization"}
    return body(7, "The request has no credentials. This API asks for a user and a password.", [reason])


def unauthenticated() -> dict[str, Any]:
    """What a request with credentials that are not the right ones is answered."""
    return body(16, "The request's credentials are not right.")


def body(code: int, message: str, details: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "details": details or []}


def _resource(error: SinkworkerError) -> dict[str, str]:
    return {
        "@type": f"{_TYPE}ResourceInfo",
        "resourceType": "",
        "resourceName": "",
        "owner": "",
        "description": str(error),
    }
