"""A corpus of requests over the Sessions API that every front must answer alike.

The cases run in order against one store, each on a connection of its own, so later ones
see what earlier ones appended. ``status`` is what any front answers.
"""

from __future__ import annotations

from typing import Final

from tests.server.corpus import http_itself
from tests.server.corpus.case import (
    AUTH,
    BODY_BYTES_MAX,
    EVENT,
    JSON,
    Case,
    E,
    ask,
    chunked,
    post,
)

TOOL: Final = b'{"type":"agent.tool_use","name":"write_file","input":{"path":"fib.txt"}}'

_APPENDS: Final = [
    Case("append if it is there", post(E, EVENT, b"If-Match: *"), 404),
    Case("append one event", post(E, EVENT), 204),
    Case("append if it is as known", post(E, EVENT, b'If-Match: "1:0:1"'), 204),
    Case("append if nothing matches", post(E, EVENT, b'If-Match: "x"'), 412),
    Case("append an array", post(E, b"[" + TOOL + b"," + EVENT + b"]"), 204),
    Case("append the wrapper", post(E, b'{"events":[' + EVENT + b"]}"), 204),
    Case("append with white space", post(E, b' \r\n [ {"type" : "a.b"} ] \n'), 204),
    Case("append with a client's id", post(E, b'{"type":"a","id":"evt_mine"}'), 204),
    Case("append overwrites offset", post(E, b'{"type":"a","offset":"9","created_at":1}'), 204),
    Case("append managed agents", post(E, EVENT, b"anthropic-beta: x"), 200),
    Case("append beta query", post(E + b"?beta=true", EVENT), 200),
    Case("append unicode", post(E, '{"type":"a","text":"日本語 \\u2028 é"}'.encode()), 204),
    Case("append surrogate escape", post(E, rb'{"type":"a","text":"\ud83d\ude00"}'), 204),
    Case("append lone surrogate", post(E, rb'{"type":"a","text":"\ud83d"}'), 400),
    Case("append big numbers", post(E, b'{"type":"a","n":123456789012345678901234567890}'), 204),
    Case("append line breaks", post(E, rb'{"type":"a","text":"a\r\nb\nc"}'), 204),
    Case("append empty array", post(E, b"[]"), 400),
    Case("append empty wrapper", post(E, b'{"events":[]}'), 400),
    Case("append no type", post(E, b'{"text":"a"}'), 400),
    Case("append empty type", post(E, b'{"type":""}'), 400),
    Case("append type no string", post(E, b'{"type":1}'), 400),
    Case("append a string", post(E, b'"a"'), 400),
    Case("append a number", post(E, b"1"), 400),
    Case("append null", post(E, b"null"), 400),
    Case("append nested array", post(E, b"[[" + EVENT + b"]]"), 400),
    Case("append one bad of two", post(E, b"[" + EVENT + b',{"a":1}]'), 400),
    Case("append broken JSON", post(E, b'{"type":"a"'), 400),
    Case("append trailing bytes", post(E, EVENT + b"x"), 400),
    Case("append two values", post(E, EVENT + EVENT), 400),
    Case("append NaN", post(E, b'{"type":"a","n":NaN}'), 400),
    Case("append invalid UTF-8", post(E, b'{"type":"\xff"}'), 400),
    Case("append BOM", post(E, b"\xef\xbb\xbf" + EVENT), 400),
    Case("append empty body", post(E, b""), 400),
    Case("append no body, no length", ask(b"POST " + E, JSON), 400),
    Case("append other type", ask(b"POST " + E, b"Content-Type: text/plain", body=EVENT), 415),
    Case("append no type header", ask(b"POST " + E, body=EVENT), 204),
    Case("append charset", ask(b"POST " + E, JSON + b"; charset=utf-8", body=EVENT), 204),
    Case("append type in capitals", ask(b"POST " + E, JSON.upper(), body=EVENT), 204),
    Case(
        "append vendor JSON",
        ask(b"POST " + E, b"Content-Type: application/vnd.x+json", body=EVENT),
        415,
    ),
    Case(
        "append header case", ask(b"POST " + E, b"cOnTeNt-TyPe: application/json", body=EVENT), 204
    ),
    Case("append spaces in header", ask(b"POST " + E, JSON + b" \t ", body=EVENT), 204),
    Case("append at the body limit", post(E, EVENT + b" " * (BODY_BYTES_MAX - len(EVENT))), 204),
    Case("append above the body limit", post(E, EVENT + b" " * BODY_BYTES_MAX), 413),
    Case("append too many events", post(E, b"[" + b'{"type":"a"},' * 60 + b'{"type":"a"}]'), 413),
    Case(
        "append chunked",
        chunked(b"POST " + E, b'd\r\n{"type":"abc"\r\n1\r\n}\r\n0\r\n\r\n', JSON),
        204,
    ),
    Case(
        "append chunked capitals",
        chunked(b"POST " + E, b'C\r\n{"type":"ab"\r\n1\r\n}\r\n0\r\n\r\n', JSON),
        204,
    ),
    Case(
        "append chunk extension",
        chunked(b"POST " + E, b'c;a=b\r\n{"type":"a"}\r\n0\r\nTrailer: x\r\n\r\n', JSON),
        204,
    ),
    Case(
        "append chunked above the limit",
        chunked(b"POST " + E, b"%x\r\n%b\r\n0\r\n\r\n" % (30_000, b" " * 30_000), JSON),
        413,
    ),
    Case("append chunked nothing", chunked(b"POST " + E, b"0\r\n\r\n", JSON), 400),
    Case(
        "producer first",
        post(E, EVENT, b"Producer-Id: p", b"Producer-Epoch: 0", b"Producer-Seq: 0"),
        200,
    ),
    Case(
        "producer again",
        post(E, EVENT, b"Producer-Id: p", b"Producer-Epoch: 0", b"Producer-Seq: 0"),
        204,
    ),
    Case(
        "producer gap",
        post(E, EVENT, b"Producer-Id: p", b"Producer-Epoch: 0", b"Producer-Seq: 5"),
        409,
    ),
    Case(
        "producer new epoch",
        post(E, EVENT, b"Producer-Id: p", b"Producer-Epoch: 1", b"Producer-Seq: 0"),
        200,
    ),
    Case(
        "producer fenced",
        post(E, EVENT, b"Producer-Id: p", b"Producer-Epoch: 0", b"Producer-Seq: 1"),
        403,
    ),
    Case(
        "producer epoch not from 0",
        post(E, EVENT, b"Producer-Id: p", b"Producer-Epoch: 2", b"Producer-Seq: 3"),
        400,
    ),
    Case("producer incomplete", post(E, EVENT, b"Producer-Id: p"), 400),
    Case(
        "producer bad number",
        post(E, EVENT, b"Producer-Id: p", b"Producer-Epoch: x", b"Producer-Seq: 0"),
        400,
    ),
    Case(
        "producer empty id",
        post(E, EVENT, b"Producer-Id:", b"Producer-Epoch: 0", b"Producer-Seq: 0"),
        400,
    ),
    Case("stream-seq", post(E, EVENT, b"Stream-Seq: 005"), 204),
    Case("stream-seq behind", post(E, EVENT, b"Stream-Seq: 004"), 409),
    Case("closed is a flag", post(E, EVENT, b"Stream-Closed: false"), 204),
]

_MORE: Final = [
    Case(
        "create by append",
        post(b"/v1/sessions/done/events", b"[" + EVENT + b"," + TOOL + b"]"),
        204,
    ),
    Case("close with events", post(b"/v1/sessions/done/events", TOOL, b"Stream-Closed: true"), 204),
    Case("close again", post(b"/v1/sessions/done/events", b"", b"Stream-Closed: TRUE"), 204),
    Case("append to closed", post(b"/v1/sessions/done/events", EVENT), 409),
    Case("encoded slash", post(b"/v1/sessions/a%2Fb/events", EVENT), 204),
    Case("encoded slash, lower case", ask(b"GET /v1/sessions/a%2fb/events?limit=0"), 400),
    Case("encoded UTF-8", post(b"/v1/sessions/%E6%97%A5/events", EVENT), 204),
    Case("encoded space", post(b"/v1/sessions/a%20b/events", EVENT), 204),
    Case("plus is no space in a path", post(b"/v1/sessions/a+b/events", EVENT), 204),
    Case("encoded control", post(b"/v1/sessions/a%00b/events", EVENT), 400),
    Case("encoded nonsense", post(b"/v1/sessions/a%zz/events", EVENT), 400),
    Case("stray percent", post(b"/v1/sessions/a%/events", EVENT), 400),
    Case("encoded no UTF-8", post(b"/v1/sessions/%ff/events", EVENT), 400),
    Case("empty id", post(b"/v1/sessions//events", EVENT), 400),
    Case("long id", post(b"/v1/sessions/%b/events" % (b"a" * 122), EVENT), 204),
    Case("too long id", post(b"/v1/sessions/%b/events" % (b"a" * 123), EVENT), 400),
    Case("dots", ask(b"GET /v1/sessions/../events"), 404),
    Case("dot segments stay", ask(b"GET /v1/sessions/a/../s1/events"), 404),
    Case("trailing slash", ask(b"GET " + E + b"/"), 404),
    Case("double slash", ask(b"GET //v1/sessions"), 404),
    Case("quotes in the path", ask(b"GET /v1/sessions/\"'<>/events"), 404),
    Case("upper case path", ask(b"GET /V1/SESSIONS"), 404),
    Case("encoded letters match nothing", ask(b"GET /v1/%73essions"), 404),
]

_READS: Final = [
    Case("read", ask(b"GET " + E), 200),
    Case("read from the start", ask(b"GET " + E + b"?offset=-1"), 200),
    Case("read from an offset", ask(b"GET " + E + b"?offset=00000003"), 200),
    Case("read now", ask(b"GET " + E + b"?offset=now"), 200),
    Case("read beyond the tail", ask(b"GET " + E + b"?offset=00009999"), 200),
    Case("read bad offset", ask(b"GET " + E + b"?offset=abc"), 400),
    Case("read empty offset", ask(b"GET " + E + b"?offset="), 400),
    Case("read two offsets", ask(b"GET " + E + b"?offset=-1&offset=now"), 400),
    Case("read encoded offset", ask(b"GET " + E + b"?offset=%2D1"), 200),
    Case("read limit", ask(b"GET " + E + b"?limit=2"), 200),
    Case("read limit zero", ask(b"GET " + E + b"?limit=0"), 400),
    Case("read limit signed", ask(b"GET " + E + b"?limit=%2B2"), 400),
    Case("read limit huge", ask(b"GET " + E + b"?limit=99999999999999999999"), 400),
    Case("read newest first", ask(b"GET " + E + b"?order=desc&limit=3"), 200),
    Case("read bad order", ask(b"GET " + E + b"?order=up"), 400),
    Case("read by type", ask(b"GET " + E + b"?type=agent.tool_use"), 200),
    Case("read by types", ask(b"GET " + E + b"?types[]=a&types[]=agent.tool_use"), 200),
    Case("read by type list", ask(b"GET " + E + b"?type=a,agent.tool_use"), 200),
    Case("read by empty type", ask(b"GET " + E + b"?type="), 400),
    Case("read by time", ask(b"GET " + E + b"?created_at[gte]=2020-01-01T00:00:00Z"), 200),
    Case(
        "read by time, encoded", ask(b"GET " + E + b"?created_at%5Blt%5D=2020-01-01T00:00:00Z"), 200
    ),
    Case("read by bad time", ask(b"GET " + E + b"?created_at[gt]=yesterday"), 400),
    Case("read bad page", ask(b"GET " + E + b"?page=abc"), 400),
    Case("read managed agents", ask(b"GET " + E + b"?beta=true&limit=2"), 200),
    Case("read unknown parameter", ask(b"GET " + E + b"?nothing=1"), 200),
    Case(
        "read many parameters",
        ask(b"GET " + E + b"?" + b"&".join(b"a=%d" % n for n in range(200))),
        200,
    ),
    Case("read empty query", ask(b"GET " + E + b"?"), 200),
    Case("read ampersands", ask(b"GET " + E + b"?&&&"), 200),
    Case("read question marks", ask(b"GET " + E + b"?a=??"), 200),
    Case("read stray percent in query", ask(b"GET " + E + b"?type=%"), 400),
    Case("read no UTF-8 in query", ask(b"GET " + E + b"?type=%ff"), 400),
    Case("read unknown session", ask(b"GET /v1/sessions/nobody/events"), 404),
    Case("read closed session", ask(b"GET /v1/sessions/done/events"), 200),
    Case("read with a body", ask(b"GET " + E + b"?limit=1", body=b"ignored"), 200),
    Case("read with chunked body", chunked(b"GET " + E + b"?limit=1", b"1\r\nx\r\n0\r\n\r\n"), 200),
    Case("read If-None-Match other", ask(b"GET " + E + b"?limit=1", b'If-None-Match: "x"'), 200),
    Case("read If-None-Match any", ask(b"GET " + E + b"?limit=1", b"If-None-Match: *"), 304),
    Case("read Accept anything", ask(b"GET " + E + b"?limit=1", b"Accept: text/html"), 200),
    Case("search", ask(b"GET " + E + b"?q=fibonacci"), 200),
    Case("search with a type", ask(b"GET " + E + b"?q=fib.txt&type=agent.tool_use"), 200),
    Case("search nothing", ask(b"GET " + E + b"?q=zebra"), 200),
    Case("search empty", ask(b"GET " + E + b"?q="), 200),
    Case("search odd", ask(b"GET " + E + b"?q=a'b%22%28POL-358"), 200),
    Case("search CJK", ask(b"GET " + E + b"?q=%E6%97%A5%E6%9C%AC"), 200),
    Case("search all", ask(b"GET /v1/search?q=fibonacci"), 200),
    Case("search all in a session", ask(b"GET /v1/search?q=fibonacci&session=done"), 200),
    Case("search all by prefix", ask(b"GET /v1/search?q=fibonacci&session=d*&limit=1"), 200),
    Case("search all without q", ask(b"GET /v1/search"), 400),
    Case("long-poll closed", ask(b"GET /v1/sessions/done/events?offset=now&live=long-poll"), 204),
    Case("long-poll data", ask(b"GET " + E + b"?offset=00000001&live=long-poll&limit=1"), 200),
    Case("long-poll times out", ask(b"GET " + E + b"?offset=now&live=long-poll"), 204),
    Case("long-poll of one type", ask(b"GET " + E + b"?offset=-1&live=long-poll&type=none"), 204),
    Case(
        "long-poll of what is known",
        ask(b"GET " + E + b"?offset=00000001&live=long-poll", b"If-None-Match: *"),
        304,
    ),
    Case(
        "long-poll processed",
        ask(b"GET " + E + b"?offset=00000001&live=long-poll&limit=1&beta=true"),
        200,
    ),
    Case("long-poll without offset", ask(b"GET " + E + b"?live=long-poll&limit=1"), 200),
    Case(
        "long-poll unknown session",
        ask(b"GET /v1/sessions/nobody/events?offset=-1&live=long-poll"),
        404,
    ),
    Case("live unknown", ask(b"GET " + E + b"?offset=-1&live=maybe"), 400),
    Case("SSE closed", ask(b"GET /v1/sessions/done/events?offset=-1&live=sse"), 200),
    Case(
        "SSE closed, by type", ask(b"GET /v1/sessions/done/events?offset=-1&live=sse&type=a"), 200
    ),
    Case(
        "SSE closed, resumed",
        ask(b"GET /v1/sessions/done/events?live=sse", b"Last-Event-ID: 00000002"),
        200,
    ),
    Case(
        "SSE managed agents", ask(b"GET /v1/sessions/done/events?offset=-1&live=sse&beta=true"), 200
    ),
    Case("SSE bad resume", ask(b"GET /v1/sessions/done/events?live=sse", b"Last-Event-ID: x"), 400),
    Case("SSE unknown session", ask(b"GET /v1/sessions/nobody/events?offset=-1&live=sse"), 404),
    Case("SSE to HTTP/1.0", ask(b"GET /v1/sessions/done/events?offset=-1&live=sse HTTP/1.0"), 200),
    Case("SSE head", ask(b"HEAD /v1/sessions/done/events?offset=-1&live=sse"), 200),
    Case("event stream closed", ask(b"GET /v1/sessions/done/events/stream?offset=-1"), 200),
    Case("event stream unknown", ask(b"GET /v1/sessions/nobody/events/stream"), 404),
    Case("event stream head", ask(b"HEAD /v1/sessions/done/events/stream"), 200),
    Case("head", ask(b"HEAD " + E), 200),
    Case("head closed", ask(b"HEAD /v1/sessions/done/events"), 200),
    Case("head unknown", ask(b"HEAD /v1/sessions/nobody/events"), 404),
    Case("head of a list", ask(b"HEAD /v1/sessions"), 200),
]

_SESSIONS: Final = [
    Case("list", ask(b"GET /v1/sessions"), 200),
    Case("list by prefix", ask(b"GET /v1/sessions?prefix=a"), 200),
    Case("list newest first", ask(b"GET /v1/sessions?order=desc&limit=2"), 200),
    Case("list bad limit", ask(b"GET /v1/sessions?limit=x"), 400),
    Case("list bad page", ask(b"GET /v1/sessions?page=x"), 400),
    Case("get", ask(b"GET /v1/sessions/s1"), 200),
    Case("get unknown", ask(b"GET /v1/sessions/nobody"), 404),
    Case("get encoded", ask(b"GET /v1/sessions/%73%31"), 200),
    Case("set title", post(b"/v1/sessions/s1", b'{"title":"a title","metadata":{"k":"v"}}'), 200),
    Case("set nothing known", post(b"/v1/sessions/s1", b'{"colour":"red"}'), 400),
    Case("set no object", post(b"/v1/sessions/s1", b"[]"), 400),
    Case("set unknown session", post(b"/v1/sessions/nobody", b'{"title":"a"}'), 404),
    Case("fork", post(b"/v1/sessions/s1/fork", b'{"id":"branch","offset":"00000002"}'), 201),
    Case("fork onto one that is there", post(b"/v1/sessions/s1/fork", b'{"id":"done"}'), 409),
    Case("fork unknown", post(b"/v1/sessions/nobody/fork", b'{"id":"b2"}'), 404),
    Case("fork bad offset", post(b"/v1/sessions/s1/fork", b'{"id":"b3","offset":"x"}'), 400),
    Case("read the fork", ask(b"GET /v1/sessions/branch/events"), 200),
    Case("delete", ask(b"DELETE /v1/sessions/a+b"), 204),
    Case("delete again", ask(b"DELETE /v1/sessions/a+b"), 404),
    Case("read what is deleted", ask(b"GET /v1/sessions/a+b/events"), 404),
    Case("delete a fork's source", ask(b"DELETE /v1/sessions/s1"), 204),
    Case("read a fork's deleted source", ask(b"GET " + E), 410),
    Case("append to a fork's deleted source", post(E, EVENT), 410),
]

_METHODS: Final = [
    Case(
        "preflight",
        ask(
            b"OPTIONS " + E, b"Origin: http://a", b"Access-Control-Request-Method: POST", auth=False
        ),
        204,
    ),
    Case("options of a list", ask(b"OPTIONS /v1/sessions", auth=False), 204),
    Case("options of nothing", ask(b"OPTIONS /nothing", auth=False), 404),
    Case("options of the server", ask(b"OPTIONS *", auth=False), 404),
    Case("put events", ask(b"PUT " + E, body=b"x"), 405),
    Case("patch events", ask(b"PATCH " + E, body=b"x"), 405),
    Case("delete events", ask(b"DELETE " + E), 405),
    Case("post a list", post(b"/v1/sessions", EVENT), 405),
    Case("post the search", post(b"/v1/search", b"{}"), 405),
    Case("head of a fork", ask(b"HEAD /v1/sessions/s1/fork"), 405),
    Case("trace", ask(b"TRACE " + E), 501),
    Case("connect", ask(b"CONNECT tailrace.test:80"), 501),
    Case("unknown method", ask(b"BREW " + E), 501),
    Case("WebDAV method", ask(b"PROPFIND " + E), 501),
    Case("root", ask(b"GET /"), 404),
    Case("favicon", ask(b"GET /favicon.ico"), 404),
    Case("health", ask(b"GET /healthz", auth=False), 200),
    Case("health head", ask(b"HEAD /healthz", auth=False), 200),
    Case("ready", ask(b"GET /readyz", auth=False), 200),
    Case("metrics without a key", ask(b"GET /metrics", auth=False), 401),
]

_KEYS: Final = [
    Case("no key", ask(b"GET " + E, auth=False), 401),
    Case("wrong key", ask(b"GET " + E, b"Authorization: Bearer wrong", auth=False), 401),
    Case("x-api-key", ask(b"GET /v1/sessions", b"x-api-key: correct-key", auth=False), 200),
    Case("wrong x-api-key", ask(b"GET " + E, b"x-api-key: wrong", auth=False), 401),
    Case(
        "scheme in lower case",
        ask(b"GET /v1/sessions", b"Authorization: bearer correct-key", auth=False),
        200,
    ),
    Case("basic", ask(b"GET " + E, b"Authorization: Basic Y29ycmVjdC1rZXk=", auth=False), 401),
    Case(
        "key with more behind",
        ask(b"GET " + E, b"Authorization: Bearer correct-key2", auth=False),
        401,
    ),
    Case("no key, large body", ask(b"POST " + E, JSON, body=b"x" * 10_000, auth=False), 401),
    Case("no key, too large body", ask(b"POST " + E, JSON, body=b"x" * 30_000, auth=False), 413),
    Case(
        "no key, chunked", chunked(b"POST " + E, b"1\r\nx\r\n0\r\n\r\n").replace(AUTH, b"X: y"), 401
    ),
]


CASES: Final = [*_APPENDS, *_MORE, *_READS, *_METHODS, *_KEYS, *http_itself.CASES, *_SESSIONS]
