"""A corpus of requests at ``/ds`` that every front must answer alike.

The cases run in order against one store, each on a connection of its own, so later ones
see what earlier ones made. ``status`` is what any front answers.
"""

from __future__ import annotations

import re
from typing import Final

from tests.server.corpus import streams_api
from tests.server.corpus.case import JSON, Case, ask

TEXT: Final = b"Content-Type: text/plain"
TWIN_BUCKET: Final = b"twin"

_FLAT_PATH: Final = re.compile(rb"/v1/stream/([^ ?\r\n]*)")
FLAT_ONLY: Final = frozenset(
    {
        "create with an encoded slash",
        "read an encoded slash",
        "create reserved",
        "create reserved, encoded",
        "create with no slash",
        "options of no path",
    }
)
"""What only the flat surface has: slashes in names, and its reserved segment."""


def twin_name(name: str) -> str:
    return f"in a bucket, {name}"


def _twin(case: Case) -> Case:
    """The same request at a stream in a bucket, whose id has a hyphen for each slash."""

    def moved(match: re.Match[bytes]) -> bytes:
        return b"/ds/" + TWIN_BUCKET + b"/" + match[1].replace(b"/", b"-")

    return Case(twin_name(case.name), _FLAT_PATH.sub(moved, case.request), case.status)


def put(path: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return ask(b"PUT /ds/" + path, *fields, body=body)


def post(path: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return ask(b"POST /ds/" + path, *fields, body=body)


def get(path: bytes, *fields: bytes) -> bytes:
    return ask(b"GET /ds/" + path, *fields)


def head(path: bytes) -> bytes:
    return ask(b"HEAD /ds/" + path)


def delete(path: bytes) -> bytes:
    return ask(b"DELETE /ds/" + path)


_BUCKETS: Final = [
    Case("make a bucket", put(b"demo"), 201),
    Case("make it again", put(b"demo"), 409),
    Case("make a bucket without a length", ask(b"PUT /ds/other"), 201),
    Case("make a bucket with a body", put(b"third", JSON, body=b"{}"), 201),
    Case("make a bucket of the longest name", put(b"b" * 64), 201),
    *(
        Case(f"make bucket {name!r}", put(name), 400)
        for name in (b"", b"abc", b"Demo", b"de.mo", b"d%20mo", b"d%2Fmo", b"%", b"%FF", b"b" * 65)
    ),
    Case("make an internal bucket", put(b"__ds"), 404),
    Case("make the flat bucket", put(b"flat"), 409),
    Case("make a bucket without a key", ask(b"PUT /ds/bad1", body=b"", auth=False), 401),
    Case("look at a bucket of nothing", get(b"other"), 200),
    Case("look at it with HEAD", head(b"other"), 200),
    Case("look at no bucket", get(b"none"), 404),
    Case("look at a bad bucket", get(b"NO"), 400),
    Case("look at an internal bucket", get(b"__subscriptions"), 404),
    Case("delete a bucket", delete(b"other"), 204),
    Case("delete the bucket again", delete(b"other"), 404),
    Case("delete a bad bucket", delete(b"."), 400),
    Case("delete the flat bucket", delete(b"flat"), 409),
    Case("delete the sessions", delete(b"sessions"), 409),
    Case("post to a bucket", post(b"demo", JSON, body=b"{}"), 405),
    Case("options of a bucket", ask(b"OPTIONS /ds/demo", auth=False), 204),
    Case("options of nothing", ask(b"OPTIONS /ds", auth=False), 404),
]

_STREAMS: Final = [
    Case("make a stream", put(b"demo/a", TEXT, body=b"one"), 201),
    Case("make a stream in no bucket", put(b"none/a", TEXT), 404),
    Case("make a stream in a bad bucket", put(b"NO/a", TEXT), 400),
    Case("make a stream in an internal bucket", put(b"__ds/a", TEXT), 404),
    Case("make a stream in the flat bucket", put(b"flat/a", TEXT), 404),
    Case("make a stream called streams", put(b"demo/%73treams", TEXT), 400),
    Case("make a stream at streams", put(b"demo/streams", TEXT), 405),
    Case("make a stream with a slash", put(b"demo/a%2Fb", TEXT), 400),
    Case("make a stream with two slashes", put(b"demo/a/b", TEXT), 404),
    Case("make a stream with NUL", put(b"demo/a%00", TEXT), 400),
    Case("make a stream with dots", put(b"demo/a..b", TEXT), 400),
    Case("make a stream with a dot", put(b"demo/a.b", TEXT), 201),
    Case("make the longest stream", put(b"demo/" + b"s" * 118, TEXT), 201),
    Case("make too long a stream", put(b"demo/" + b"s" * 119, TEXT), 400),
    Case("make too long a stream of UTF-8", put(b"demo/" + b"%C3%A9" * 60, TEXT), 400),
    Case("delete a bucket that is not empty", delete(b"demo"), 409),
    Case("append if all matches", post(b"demo/a", TEXT, b"If-Match: *", body=b"two"), 204),
    Case("append if nothing matches", post(b"demo/a", TEXT, b'If-Match: "x"', body=b"x"), 412),
    Case("append if weakly", post(b"demo/a", TEXT, b'If-Match: W/"1:0:2"', body=b"x"), 412),
    Case("append if to nothing", post(b"demo/none", TEXT, b'If-Match: "x"', body=b"x"), 404),
    Case(
        "append if, and expected",
        post(b"demo/a", TEXT, b'If-Match: "x"', b"Stream-Expected-Offset: -1", body=b"x"),
        400,
    ),
    Case(
        "append closed twice",
        post(b"demo/a.b", TEXT, b"Stream-Closed: true", b"Stream-Closed: true", body=b"x"),
        204,
    ),
    Case("append to what that closed", post(b"demo/a.b", TEXT, body=b"x"), 409),
    Case("fork across surfaces", put(b"demo/f", b"Stream-Forked-From: /v1/stream/j/empty"), 201),
    Case("fork of flat", put(b"demo/f", b"Stream-Forked-From: /ds/flat/a"), 404),
    Case("fork of internal", put(b"demo/f", b"Stream-Forked-From: /ds/__ds/a"), 404),
    Case("fork of a bad id", put(b"demo/f", b"Stream-Forked-From: /ds/demo/a%2Fb"), 400),
]

_SESSION: Final = b"sessions/s%2F1"
_SESSIONS: Final = [
    Case(
        "an event",
        ask(
            b"POST /v1/sessions/s%2F1/events",
            JSON,
            body=b'{"type":"user.message","id":"evt_1"}',
        ),
        204,
    ),
    Case("a session is a stream", get(_SESSION), 200),
    Case("its head", head(_SESSION), 200),
    Case("its events live", get(_SESSION + b"?offset=-1&live=sse"), 200),
    Case("its news", get(_SESSION + b"?offset=now&live=long-poll"), 204),
    Case("its fork", put(b"demo/of-a-session", b"Stream-Forked-From: /ds/" + _SESSION), 201),
    Case("append to a session", post(_SESSION, JSON, body=b"{}"), 405),
    Case("make it", put(_SESSION, JSON), 405),
    Case("no session", get(b"sessions/none"), 404),
    Case("too long a session", get(b"sessions/" + b"s" * 123), 400),
]

_LISTINGS: Final = [
    *(
        Case(f"list {query!r}", get(b"demo/streams" + query), 200)
        for query in (
            b"?limit=1000&prefix=none",
            b"?after=zzz",
            b"?prefix=%C3%A9&after=&limit=1",
        )
    ),
    *(
        Case(f"list {query!r}", get(b"demo/streams" + query), 400)
        for query in (b"?limit=0", b"?limit=1001", b"?limit=x", b"?prefix=%FF", b"?after=a&after=b")
    ),
    Case("list no bucket", get(b"none/streams"), 404),
    Case("list a bad bucket", get(b"NO/streams"), 400),
    Case("list an internal bucket", get(b"__ds/streams"), 404),
    Case("list a bucket of nothing", get(b"third/streams"), 200),
    Case("list without a key", ask(b"GET /ds/demo/streams", auth=False), 401),
]


def _retain(offset: bytes, stream: bytes = b"demo/a") -> bytes:
    return put(stream + b"/retention/" + offset)


_RETENTION: Final = [
    Case("retain all", _retain(b"00000000"), 204),
    Case("retain the second", _retain(b"00000001"), 204),
    Case("retain it again", _retain(b"00000001"), 204),
    Case("retain backwards", _retain(b"00000000"), 409),
    Case("retain beyond", _retain(b"00000003"), 409),
    Case("retain far beyond", _retain(b"9999999999999999_9999999999999999"), 409),
    *(
        Case(f"retain from {offset!r}", _retain(offset), 400)
        for offset in (b"", b"-1", b"now", b"1", b"x", b"%FF", b"00000001%00")
    ),
    Case("retain of nothing", _retain(b"00000000", b"demo/none"), 404),
    Case("retain of an internal bucket", _retain(b"00000000", b"__ds/a"), 404),
    Case("retain with another method", get(b"demo/a/retention/00000000"), 405),
    Case("read what is gone", get(b"demo/a?offset=-1"), 410),
    Case("read what is left", get(b"demo/a?offset=00000001"), 200),
    Case("follow what is gone", get(b"demo/a?offset=-1&live=sse"), 410),
    Case("poll what is gone", get(b"demo/a?offset=-1&live=long-poll"), 410),
    Case("fork what is gone", put(b"demo/g", b"Stream-Forked-From: /ds/demo/a",
                                  b"Stream-Fork-Offset: -1"), 410),
]  # fmt: skip

TWINS: Final = [_twin(case) for case in streams_api.CASES if case.name not in FLAT_ONLY]

CASES: Final = [
    *_BUCKETS,
    *_STREAMS,
    *_SESSIONS,
    *_LISTINGS,
    *_RETENTION,
    Case("make the bucket of twins", ask(b"PUT /ds/" + TWIN_BUCKET), 201),
    *TWINS,
]
