"""What the document is made of, before it is JSON.

A module of descriptions maps each handler of the table of routes to one :class:`Described`;
paths, methods and who needs a key are the table's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tailrace_server.context import Handler

Json = dict[str, Any]

STRING: Final[Json] = {"type": "string"}
ANYTHING: Final[Json] = {}
TRUE: Final[Json] = {"type": "string", "enum": ["true"]}
JSON_TYPE: Final = "application/json"
EVENT_STREAM_TYPE: Final = "text/event-stream"
ANY_TYPE: Final = "*/*"
WAKE: Final = "wake"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the path, a parameter of the query or a header of the request."""

    where: str
    name: str
    description: str
    schema: Json = field(default_factory=lambda: STRING)
    required: bool = False

    def document(self) -> Json:
        found: Json = {"name": self.name, "in": self.where, "description": self.description}
        if self.required:
            found["required"] = True
        return found | {"schema": self.schema}


@dataclass(frozen=True, slots=True)
class Header:
    """A header of an answer. ``always``: the answer never comes without it."""

    name: str
    description: str
    schema: Json = field(default_factory=lambda: STRING)
    always: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of one status. ``content`` is a schema by media type; none means no body."""

    description: str
    content: Mapping[str, Json] = field(default_factory=dict)
    headers: tuple[Header, ...] = ()

    def document(self) -> Json:
        found: Json = {"description": self.description}
        if self.headers:
            found["headers"] = {header.name: _header(header) for header in self.headers}
        if self.content:
            found["content"] = {kind: {"schema": schema} for kind, schema in self.content.items()}
        return found


def _header(header: Header) -> Json:
    found: Json = {"description": header.description, "schema": header.schema}
    return found | {"required": True} if header.always else found


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body: a schema by media type."""

    description: str
    content: Mapping[str, Json]
    required: bool = True

    def document(self) -> Json:
        content = {kind: {"schema": schema} for kind, schema in self.content.items()}
        return {"description": self.description, "required": self.required, "content": content}


@dataclass(frozen=True, slots=True)
class Described:
    """An operation.

    ``parameters`` are those of query and headers; the path's come with its name. ``answers``
    are what is particular to the operation: what any request may get is added to them.
    ``scheme`` is how a request shows that it may come, where that is no API key; ``in_bucket``
    are further answers where the path names a bucket.
    """

    tag: str
    summary: str
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    description: str = ""
    scheme: str = ""
    in_bucket: Mapping[int, Answer] = field(default_factory=dict)


Descriptions = dict[Handler, Described]


def named(schema: str) -> Json:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{schema}"}


def record(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Json:
    """The schema of a JSON object with just these members."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def array(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items, **more}


def nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def integer(minimum: int, maximum: int | None = None) -> Json:
    found: Json = {"type": "integer", "minimum": minimum}
    return found if maximum is None else found | {"maximum": maximum}


def json(schema: Json) -> dict[str, Json]:
    """The content of a JSON body."""
    return {JSON_TYPE: schema}
