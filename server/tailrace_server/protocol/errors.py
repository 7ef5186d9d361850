"""Every refusal as one JSON shape: ``{"error": {"type": ..., "message": ...}}``."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from tailrace_server.protocol import caching, headers
from tailrace_server.protocol.message import HeaderList, Response

INVALID_REQUEST: Final = "invalid_request_error"
AUTHENTICATION: Final = "authentication_error"
PERMISSION: Final = "permission_error"
NOT_FOUND: Final = "not_found_error"
METHOD_NOT_ALLOWED: Final = "method_not_allowed"
TOO_LARGE: Final = "request_too_large"
UNSUPPORTED_MEDIA_TYPE: Final = "unsupported_media_type"
OVERLOADED: Final = "overloaded_error"
UNAVAILABLE: Final = "unavailable_error"
CORRUPTED: Final = "data_corrupted"
RECORDS_LOST: Final = "records_lost"
INTERNAL: Final = "internal_error"

_JSON: Final = (headers.CONTENT_TYPE, "application/json")
_NO_STORE: Final = (headers.CACHE_CONTROL, caching.NO_STORE)


class RequestError(Exception):
    """A request that cannot be served as it is; carries its whole answer.

    ``status`` is the HTTP status, ``type`` the machine-readable kind, ``extra`` headers
    to add. The message names what was wrong and what to do.
    """

    def __init__(self, status: int, type: str, message: str, extra: HeaderList = ()) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.message = message
        self.extra = extra

    def response(self) -> Response:
        return error_response(self.status, self.type, self.message, self.extra)


def bad_request(field: str, message: str) -> RequestError:
    """400 that names the parameter, header or body field at fault."""
    return RequestError(400, INVALID_REQUEST, f"{field}: {message}")


def too_large(message: str) -> RequestError:
    return RequestError(413, TOO_LARGE, message)


def overloaded(message: str, retry_after_s: float) -> RequestError:
    """503 to be tried again; ``Retry-After`` is in whole seconds, at least one."""
    after = str(max(1, math.ceil(retry_after_s)))
    return RequestError(503, OVERLOADED, message, ((headers.RETRY_AFTER, after),))


def error_response(status: int, type: str, message: str, extra: HeaderList = ()) -> Response:
    body = msgspec.json.encode({"error": {"type": type, "message": message}})
    return Response(status, (_JSON, _NO_STORE, *extra, *headers.BASE), (body,))
