"""A corpus of requests for snapshots and bootstraps that every front must answer alike.

The cases run in order against one store; ``status`` is what any front answers.
"""

from __future__ import annotations

from typing import Final

from tests.server.corpus.buckets_api import delete, get, head, post, put
from tests.server.corpus.case import JSON, Case, ask, chunked

TEXT: Final = b"Content-Type: text/plain"
_MATCH: Final = b"Stream-Snapshot-Match: "
_ONE: Final = b"sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"  # of "one"
S: Final = b"snap/a"
LARGE: Final = b"x" * 100_000
"""More than these fronts take of any other body."""


def at(offset: bytes, stream: bytes = S) -> bytes:
    return stream + b"/snapshot/" + offset


CASES: Final = [
    Case("snap: a bucket", put(b"snap"), 201),
    Case("snap: a stream", put(S, JSON, body=b"[0,1,2,3]"), 201),
    Case("snap: newest of none", get(S + b"/snapshot"), 404),
    Case("snap: bootstrap without one", head(S + b"/bootstrap"), 200),
    Case("snap: put", put(at(b"00000001"), TEXT, body=b"one"), 204),
    Case("snap: put again", put(at(b"00000001"), TEXT, body=b"one"), 204),
    Case("snap: put another", put(at(b"00000001"), TEXT, body=b"two"), 409),
    Case("snap: put of another type", put(at(b"00000001"), JSON, body=b"one"), 409),
    Case("snap: put an older one", put(at(b"00000000"), TEXT, body=b"x"), 409),
    Case("snap: put beyond", put(at(b"00000005"), TEXT, body=b"x"), 409),
    Case("snap: put if another", put(at(b"00000002"), _MATCH + b"sha256:" + b"0" * 64), 409),
    Case("snap: put if nothing", put(at(b"00000002"), _MATCH + b"x", body=b"x"), 400),
    Case("snap: put if it is", put(at(b"00000002"), TEXT, _MATCH + _ONE, body=b""), 204),
    Case("snap: put of no length", ask(b"PUT /ds/" + at(b"00000003")), 204),
    Case("snap: put of a bad type", put(at(b"00000004"), b"Content-Type: x", body=b"x"), 400),
    *(
        Case(f"snap: put at {offset!r}", put(at(offset), TEXT, body=b"x"), 400)
        for offset in (b"", b"-1", b"now", b"1", b"%FF")
    ),
    Case("snap: put in chunks",
         chunked(b"PUT /ds/" + at(b"00000004"), b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", TEXT), 204),
    Case("snap: put to nothing", put(at(b"00000000", b"snap/none"), body=b"x"), 404),
    Case("snap: put without a key", ask(b"PUT /ds/" + at(b"00000004"), body=b"", auth=False), 401),
    Case("snap: get", get(at(b"00000004")), 200),
    Case("snap: head", head(at(b"00000004")), 200),
    Case("snap: get by 1.0", ask(b"GET /ds/" + at(b"00000004") + b" HTTP/1.0"), 200),
    Case("snap: get what was replaced", get(at(b"00000001")), 404),
    Case("snap: get at nothing", get(at(b"x")), 400),
    Case("snap: newest", get(S + b"/snapshot"), 307),
    Case("snap: newest, by head", head(S + b"/snapshot"), 307),
    Case("snap: the stream's head", head(S), 200),
    Case("snap: post", post(at(b"00000004"), body=b"x"), 405),
    Case("snap: post to the newest", post(S + b"/snapshot", body=b"x"), 405),
    Case("snap: delete it", delete(at(b"00000004")), 409),
    Case("snap: delete another", delete(at(b"00000001")), 404),
    Case("snap: retain beyond it", post(S, JSON, body=b"4"), 204),
    Case("snap: retain newer", put(S + b"/retention/00000005"), 409),
    Case("snap: retain as old", put(S + b"/retention/00000004"), 204),
    Case("snap: put what is gone", put(at(b"00000003"), body=b"x"), 410),
    Case("snap: put a large one", put(at(b"00000005"), TEXT, body=LARGE), 204),
    Case("snap: get a large one", get(at(b"00000005")), 200),
    Case("snap: bootstrap live", get(S + b"/bootstrap?live=sse"), 400),
    Case("snap: bootstrap of nothing", get(b"snap/none/bootstrap"), 404),
    Case("snap: post to bootstrap", post(S + b"/bootstrap", body=b"x"), 405),
    Case("snap: options", ask(b"OPTIONS /ds/" + at(b"00000001"), auth=False), 204),
]  # fmt: skip

BOOTSTRAP: Final = Case("snap: bootstrap", get(S + b"/bootstrap"), 200)
"""Its boundary is another one each time."""
