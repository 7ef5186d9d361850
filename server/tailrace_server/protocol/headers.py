"""The one table of header names, and the headers that every response carries.

Names are in their canonical case; :meth:`Request.header` takes any case.
"""

from __future__ import annotations

from typing import Final

from tailrace_server.protocol.message import HeaderList

# Requests (protocol sections 4.2, 5.1, 5.2 and 5.2.1).
AUTHORIZATION: Final = "Authorization"
API_KEY: Final = "x-api-key"
ANTHROPIC_BETA: Final = "anthropic-beta"
CONTENT_TYPE: Final = "Content-Type"
CONTENT_ENCODING: Final = "Content-Encoding"
CONTENT_LENGTH: Final = "Content-Length"
IF_NONE_MATCH: Final = "If-None-Match"
IF_MATCH: Final = "If-Match"
LAST_EVENT_ID: Final = "Last-Event-ID"
HOST: Final = "Host"
CONNECTION: Final = "Connection"
USER_AGENT: Final = "User-Agent"
ORIGIN: Final = "Origin"
X_FORWARDED_PROTO: Final = "X-Forwarded-Proto"
STREAM_SEQ: Final = "Stream-Seq"
STREAM_EXPECTED_OFFSET: Final = "Stream-Expected-Offset"
PRODUCER_ID: Final = "Producer-Id"

# Both ways.
STREAM_CLOSED: Final = "Stream-Closed"
STREAM_TTL: Final = "Stream-TTL"
STREAM_EXPIRES_AT: Final = "Stream-Expires-At"
STREAM_FORKED_FROM: Final = "Stream-Forked-From"
STREAM_FORK_OFFSET: Final = "Stream-Fork-Offset"
STREAM_FORK_SUB_OFFSET: Final = "Stream-Fork-Sub-Offset"
STREAM_SNAPSHOT_MATCH: Final = "Stream-Snapshot-Match"
PRODUCER_EPOCH: Final = "Producer-Epoch"
PRODUCER_SEQ: Final = "Producer-Seq"

# Requests to webhooks (protocol section 7.1).
WEBHOOK_SIGNATURE: Final = "Webhook-Signature"

# Responses.
ACCEPT_ENCODING: Final = "Accept-Encoding"
ALLOW: Final = "Allow"
CACHE_CONTROL: Final = "Cache-Control"
ETAG: Final = "ETag"
LOCATION: Final = "Location"
RETRY_AFTER: Final = "Retry-After"
VARY: Final = "Vary"
WWW_AUTHENTICATE: Final = "WWW-Authenticate"
X_ACCEL_BUFFERING: Final = "X-Accel-Buffering"
STREAM_NEXT_OFFSET: Final = "Stream-Next-Offset"
STREAM_UP_TO_DATE: Final = "Stream-Up-To-Date"
STREAM_CURSOR: Final = "Stream-Cursor"
STREAM_SSE_DATA_ENCODING: Final = "Stream-SSE-Data-Encoding"
STREAM_SNAPSHOT_OFFSET: Final = "Stream-Snapshot-Offset"
STREAM_SNAPSHOT_DIGEST: Final = "Stream-Snapshot-Digest"
PRODUCER_EXPECTED_SEQ: Final = "Producer-Expected-Seq"
PRODUCER_RECEIVED_SEQ: Final = "Producer-Received-Seq"

CORS_ALLOWED: Final = (
    AUTHORIZATION,
    API_KEY,
    ANTHROPIC_BETA,
    "anthropic-version",
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    LAST_EVENT_ID,
    CACHE_CONTROL,
    STREAM_SEQ,
    STREAM_EXPECTED_OFFSET,
    STREAM_CLOSED,
    STREAM_TTL,
    STREAM_EXPIRES_AT,
    STREAM_FORKED_FROM,
    STREAM_FORK_OFFSET,
    STREAM_FORK_SUB_OFFSET,
    STREAM_SNAPSHOT_MATCH,
    PRODUCER_ID,
    PRODUCER_EPOCH,
    PRODUCER_SEQ,
)

CORS_EXPOSED: Final = (
    ETAG,
    LOCATION,
    RETRY_AFTER,
    CONTENT_TYPE,
    STREAM_NEXT_OFFSET,
    STREAM_UP_TO_DATE,
    STREAM_CLOSED,
    STREAM_CURSOR,
    STREAM_SSE_DATA_ENCODING,
    STREAM_TTL,
    STREAM_EXPIRES_AT,
    STREAM_SNAPSHOT_OFFSET,
    STREAM_SNAPSHOT_DIGEST,
    PRODUCER_EPOCH,
    PRODUCER_SEQ,
    PRODUCER_EXPECTED_SEQ,
    PRODUCER_RECEIVED_SEQ,
)

BASE: Final[HeaderList] = (
    # A key travels in a header, never in a cookie, so any origin may be allowed to read.
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", ", ".join(CORS_EXPOSED)),
    # Protocol section 12.7.
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
)
"""On every response, errors included: without them a browser hides even the error."""

PREFLIGHT_MAX_AGE_S: Final = 86_400
