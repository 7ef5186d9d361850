"""Query parameters and bodies of the Sessions API → values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import msgspec

from tailrace import limits
from tailrace_server.protocol import headers, json_mode, page_token, parse, timestamps
from tailrace_server.protocol.caching import variant
from tailrace_server.protocol.cursor import parse_cursor
from tailrace_server.protocol.errors import bad_request
from tailrace_server.protocol.json_fault import shape_fault
from tailrace_server.protocol.message import Request
from tailrace_server.protocol.parse import Live, Position
from tailrace_server.protocol.target import Query, has_control

T = TypeVar("T")

SESSION_ID_BYTES_MAX: Final = 122
EVENTS_LIMIT_MAX: Final = 10_000
SESSIONS_LIMIT_MAX: Final = limits.LIST_LIMIT_MAX
SESSIONS_LIMIT_DEFAULT: Final = 100
SEARCH_LIMIT_DEFAULT: Final = 20
TYPES_MAX: Final = 100
SCOPES_MAX: Final = 100
TITLE_CHARS_MAX: Final = 1000
METADATA_BYTES_MAX: Final = 16 * limits.KIB

assert METADATA_BYTES_MAX + 8 * TITLE_CHARS_MAX < limits.METADATA_BYTES_MAX


class TimeRange(NamedTuple):
    """Milliseconds since the epoch, ``from_ms`` inclusive, ``until_ms`` exclusive; None is open."""

    from_ms: int | None = None
    until_ms: int | None = None

    @property
    def bounded(self) -> bool:
        return self.from_ms is not None or self.until_ms is not None


@dataclass(frozen=True, slots=True)
class EventsQuery:
    """GET of a session's events, in any of its modes."""

    start: Position | None
    limit: int | None
    descending: bool
    types: frozenset[str]
    created: TimeRange
    page: page_token.EventsPage | None
    text: str | None
    live: Live | None
    cursor: int | None
    managed_agents: bool

    @property
    def variant(self) -> str:
        """What, beside the range, shapes the body; part of the entity tag."""
        parts = (
            "desc" if self.descending else "",
            ",".join(sorted(self.types)),
            "processed" if self.managed_agents else "",
            str(self.limit or ""),
        )
        created = f"{self.created.from_ms}-{self.created.until_ms}" if self.created.bounded else ""
        return variant(*parts, created)


@dataclass(frozen=True, slots=True)
class SessionsQuery:
    """GET /v1/sessions. By id, or by creation time."""

    limit: int
    descending: bool
    by_creation: bool
    prefix: str
    created: TimeRange
    page: page_token.StreamsPage | None

    @property
    def order_code(self) -> int:
        """Which of the four orders this is; a page token fits only the order it came from."""
        return self.descending + 2 * self.by_creation


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """GET /v1/search. ``scopes`` empty means every session; a scope ends in ``*`` or is an id."""

    text: str
    types: frozenset[str]
    limit: int
    scopes: tuple[str, ...]
    created: TimeRange


@dataclass(frozen=True, slots=True)
class SessionUpdate:
    """POST of a session: what to change. UNSET fields stay as they are."""

    title: str | None | msgspec.UnsetType
    metadata: dict[str, msgspec.Raw] | None | msgspec.UnsetType


@dataclass(frozen=True, slots=True)
class SessionFork:
    """POST of a fork. ``id`` None: the server names it. ``ordinal`` None: the source's tail.

    The fork does not have its source's title and metadata, but these.
    """

    id: str | None
    ordinal: int | None
    title: str | None
    metadata: dict[str, msgspec.Raw] | None


def session_id(text: str, field: str = "session id") -> str:
    """A session id as the path or a body has it, decoded; 400 says which rule it breaks."""
    if not text:
        raise bad_request(field, "is empty")
    if has_control(text):
        raise bad_request(field, "must not hold control characters")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise bad_request(field, "is not valid Unicode") from None
    if size > SESSION_ID_BYTES_MAX:
        raise bad_request(field, f"is {size} bytes of UTF-8; at most {SESSION_ID_BYTES_MAX}")
    return text


def is_managed_agents(request: Request, query: Query) -> bool:
    """Whether the client speaks the managed-agents dialect of the Sessions API."""
    if request.header(headers.ANTHROPIC_BETA):
        return True
    return "true" in query.many("beta")


def types(query: Query) -> frozenset[str]:
    names = query.many("type", "type[]", "types", "types[]")
    found = frozenset(part for name in names for part in name.split(",") if part)
    if names and not found:
        raise bad_request("type", "is empty; leave it out to get every type")
    if len(found) > TYPES_MAX:
        raise bad_request("type", f"names more than {TYPES_MAX} types")
    return found


def created(query: Query) -> TimeRange:
    """``created_at[gt|gte|lt|lte]`` as whole milliseconds that mean the same events."""
    lower: list[int] = []
    upper: list[int] = []
    for name, bounds, beyond in (
        ("gt", lower, True),
        ("gte", lower, False),
        ("lt", upper, False),
        ("lte", upper, True),
    ):
        field = f"created_at[{name}]"
        text = query.single(field)
        if text is None:
            continue
        at_ns = timestamps.parse_ns(text, field)
        # "After t" and "not before t" begin at the next and at the same-or-next millisecond.
        floor_ms = at_ns // timestamps.NS_PER_MS
        ceiling_ms = -(-at_ns // timestamps.NS_PER_MS)
        bounds.append(max(0, floor_ms + 1 if beyond else ceiling_ms))
    return TimeRange(max(lower) if lower else None, min(upper) if upper else None)


def events_query(request: Request, query: Query) -> EventsQuery:
    live = parse.live(query)
    text = query.single("q")
    page = query.single("page")
    found = EventsQuery(
        start=parse.offset(query),
        limit=parse.limit(query, maximum=EVENTS_LIMIT_MAX),
        descending=parse.choice(query, "order", ("asc", "desc")) == "desc",
        types=types(query),
        created=created(query),
        page=None if page is None else page_token.decode_events_page(page),
        text=text,
        live=live,
        cursor=parse_cursor(query.single("cursor")),
        managed_agents=is_managed_agents(request, query),
    )
    if live is not None:
        _refuse(query, "live", ("q", "page", *_CREATED))
        if found.descending:
            raise bad_request("order", "cannot be desc in a live read")
        if live is Live.SSE:
            _refuse(query, "live=sse", ("limit",))
    elif text is not None:
        _check_text(text)
        _refuse(query, "q", ("page", "order", "offset"))
        if found.limit is not None and found.limit > limits.SEARCH_LIMIT_MAX:
            raise bad_request("limit", f"with q, at most {limits.SEARCH_LIMIT_MAX}")
    if found.page is not None and found.page.descending != found.descending:
        raise bad_request("page", "comes from a listing in the other order; send order as then")
    return found


def stream_query(request: Request, query: Query) -> EventsQuery:
    """GET of ``/events/stream``: only new events unless the client says where to start."""
    asked = parse.offset(query)
    start = parse.last_event(request) or asked or Position(None)
    return EventsQuery(
        start=start,
        limit=None,
        descending=False,
        types=types(query),
        created=TimeRange(),
        page=None,
        text=None,
        live=Live.SSE,
        cursor=None,
        managed_agents=is_managed_agents(request, query),
    )


def sessions_query(query: Query) -> SessionsQuery:
    """``order=desc`` alone means newest first; ``sort`` says by what to order otherwise."""
    order = parse.choice(query, "order", ("asc", "desc"))
    sort = parse.choice(query, "sort", ("id", "created_at"))
    by_creation = sort == "created_at" or (sort is None and order == "desc")
    page = query.single("page")
    found = SessionsQuery(
        limit=parse.limit(query, maximum=SESSIONS_LIMIT_MAX) or SESSIONS_LIMIT_DEFAULT,
        descending=order == "desc" or (order is None and by_creation),
        by_creation=by_creation,
        prefix=query.single("prefix") or "",
        created=created(query),
        page=None if page is None else page_token.decode_streams_page(page),
    )
    if found.page is not None and found.page.order != found.order_code:
        raise bad_request("page", "comes from a listing in another order; send order as then")
    return found


def search_query(query: Query) -> SearchQuery:
    text = query.single("q")
    if text is None:
        raise bad_request("q", "is missing; say what to search for")
    _check_text(text)
    scopes = tuple(query.many("session", "session[]"))
    if len(scopes) > SCOPES_MAX:
        raise bad_request("session", f"was given more than {SCOPES_MAX} times")
    for scope in scopes:
        if scope != "*":
            session_id(scope.removesuffix("*"), "session")
    return SearchQuery(
        text=text,
        types=types(query),
        limit=parse.limit(query, maximum=limits.SEARCH_LIMIT_MAX) or SEARCH_LIMIT_DEFAULT,
        scopes=scopes,
        created=created(query),
    )


class _UpdateBody(msgspec.Struct):
    title: str | None | msgspec.UnsetType = msgspec.UNSET
    metadata: dict[str, msgspec.Raw] | None | msgspec.UnsetType = msgspec.UNSET


class _ForkBody(msgspec.Struct, forbid_unknown_fields=True):
    id: str | None = None
    offset: str | None = None
    title: str | None = None
    metadata: dict[str, msgspec.Raw] | None = None


def session_update(body: bytes) -> SessionUpdate:
    found = _object(body, _UpdateBody)
    if found.title is msgspec.UNSET and found.metadata is msgspec.UNSET:
        raise bad_request("body", "sets neither title nor metadata")
    _check_title(found.title)
    return SessionUpdate(found.title, found.metadata)


def session_fork(body: bytes) -> SessionFork:
    found = _object(body, _ForkBody) if body.strip() else _ForkBody()
    ordinal = None
    if found.offset is not None:
        ordinal = parse.position(found.offset, "offset").ordinal
    _check_title(found.title)
    name = None if found.id is None else session_id(found.id, "id")
    return SessionFork(name, ordinal, found.title, found.metadata)


def _check_title(title: object) -> None:
    if isinstance(title, str) and len(title) > TITLE_CHARS_MAX:
        raise bad_request("title", f"is {len(title)} characters long; at most {TITLE_CHARS_MAX}")


def _object(body: bytes, shape: type[T]) -> T:
    json_mode.check_utf8(body)
    try:
        if json_mode.too_deep(body):
            raise RecursionError
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise bad_request(*shape_fault(error)) from None
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise json_mode.syntax_error(body, error) from None


_CREATED: Final = tuple(f"created_at[{name}]" for name in ("gt", "gte", "lt", "lte"))


def _refuse(query: Query, mode: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name in query:
            raise bad_request(name, f"cannot be combined with {mode}")


def _check_text(text: str) -> None:
    size = len(text.encode("utf-8"))
    if size > limits.QUERY_BYTES_MAX:
        raise bad_request("q", f"is {size} bytes long; at most {limits.QUERY_BYTES_MAX}")
