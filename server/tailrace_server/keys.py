"""API keys: who may do what with which sessions.

Keys are held and compared as keyed digests, so neither a timing difference nor a dump of
this table gives one away.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import os
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tailrace_server.protocol import headers
from tailrace_server.protocol.json_fault import shape_fault
from tailrace_server.protocol.message import Request

KEY_BYTES_MAX: Final = 1024


class Right(enum.Enum):
    """What a key may do: read and search, append and fork into, or change and delete."""

    READ = "read"
    APPEND = "append"
    MANAGE = "manage"


ALL_RIGHTS: Final = frozenset(Right)


class KeyFileError(ValueError):
    """A key file, or a key, is not as documented; the message says where."""


@dataclass(frozen=True, slots=True)
class Key:
    """One API key. ``sessions`` are ids, or prefixes ending in ``*``."""

    secret: str
    rights: frozenset[Right] = ALL_RIGHTS
    sessions: tuple[str, ...] = ("*",)


class Grant:
    """The rights of an authenticated request; ``revoked`` turns true when its key is removed."""

    __slots__ = ("_exact", "_prefixes", "_rights", "revoked")

    def __init__(self, rights: frozenset[Right], sessions: Iterable[str]) -> None:
        patterns = tuple(sessions)
        self._rights = rights
        self._exact = frozenset(p for p in patterns if not p.endswith("*"))
        self._prefixes = tuple(p[:-1] for p in patterns if p.endswith("*"))
        self.revoked = False

    def has(self, right: Right) -> bool:
        return right in self._rights and not self.revoked

    def covers(self, session: str) -> bool:
        """Whether this grant is for ``session`` at all, whatever the right."""
        return session in self._exact or session.startswith(self._prefixes)

    def allows(self, right: Right, session: str) -> bool:
        return self.has(right) and self.covers(session)

    @property
    def unlimited(self) -> bool:
        """Whether it covers every session."""
        return "" in self._prefixes

    @property
    def scopes(self) -> tuple[str, ...]:
        """The patterns it covers, as ids and prefixes ending in ``*``."""
        return (*sorted(self._exact), *(f"{prefix}*" for prefix in self._prefixes))


class KeyRing:
    """The keys a server accepts. Without any, every request is allowed everything.

    ``on_change`` is called after :meth:`replace`, so that live readers look at their grant.
    """

    def __init__(self, keys: Sequence[Key | str] = ()) -> None:
        # A digest key of this process alone: nobody outside can aim at a place in the table.
        self._digest_key = os.urandom(32)
        self._grants: dict[bytes, tuple[Key, Grant]] = {}
        self._open = Grant(ALL_RIGHTS, ("*",))
        self.on_change: Callable[[], None] | None = None
        self.generation = 0
        """Another number whenever a request may be granted something else than before."""
        self._fill(keys)

    @property
    def is_open(self) -> bool:
        """No key is configured: no request needs one."""
        return not self._grants

    def replace(self, keys: Sequence[Key | str]) -> None:
        """Take these keys instead. Grants of unchanged keys live on; all others are revoked."""
        self._fill(keys)
        if self.on_change is not None:
            self.on_change()

    def authenticate(self, request: Request) -> Grant | None:
        """The grant of the request's key; None if it shows none that is known."""
        if not self._grants:
            return self._open
        found: Grant | None = None
        for secret in _presented(request):
            digest = self._digest(secret)
            entry = self._grants.get(digest)
            if entry is not None and hmac.compare_digest(digest, self._digest(entry[0].secret)):
                found = found or entry[1]
        return found

    def _fill(self, keys: Sequence[Key | str]) -> None:
        grants: dict[bytes, tuple[Key, Grant]] = {}
        for item in keys:
            key = Key(item) if isinstance(item, str) else item
            _check(key)
            digest = self._digest(key.secret)
            if digest in grants:
                raise KeyFileError("a key is listed twice")
            old = self._grants.get(digest)
            same = old is not None and old[0] == key
            grants[digest] = old if old and same else (key, Grant(key.rights, key.sessions))
        kept = {id(grant) for _, grant in grants.values()}
        for _, grant in self._grants.values():
            grant.revoked = id(grant) not in kept
        if grants and not self._grants:
            self._open.revoked = True
            self._open = Grant(ALL_RIGHTS, ("*",))
        self._grants = grants
        self.generation += 1

    def _digest(self, secret: str) -> bytes:
        raw = secret.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._digest_key, digest_size=32).digest()


def _presented(request: Request) -> list[str]:
    """The keys a request shows: ``Authorization: Bearer KEY`` and ``x-api-key: KEY``."""
    found = []
    authorization = request.header(headers.AUTHORIZATION)
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer" and value.strip():
            found.append(value.strip())
    api_key = request.header(headers.API_KEY)
    if api_key:
        found.append(api_key)
    return [_text(value) for value in found if len(value) <= KEY_BYTES_MAX]


def _text(value: str) -> str:
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _check(key: Key) -> None:
    if not key.secret or key.secret != key.secret.strip() or len(key.secret) > KEY_BYTES_MAX:
        raise KeyFileError(f"a key is 1 to {KEY_BYTES_MAX} characters without spaces around it")
    if any(not character.isprintable() for character in key.secret):
        raise KeyFileError("a key must not hold control characters")
    if not key.sessions:
        raise KeyFileError('a key needs sessions; ["*"] means every session')


class _KeyEntry(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    rights: list[Right] = msgspec.field(default_factory=lambda: list(Right))
    sessions: list[str] = msgspec.field(default_factory=lambda: ["*"])


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_KeyEntry]


def load_keys(path: Path) -> list[Key]:
    """Keys of a TOML (``[[keys]]`` tables) or JSON (``{"keys":[...]}``) file.

    Each has ``key``, and optionally ``rights`` (read, append, manage; default all) and
    ``sessions`` (ids, or prefixes ending in ``*``; default every session).
    """
    text = path.read_text("utf-8")
    try:
        data = msgspec.json.decode(text) if path.suffix == ".json" else tomllib.loads(text)
        found = msgspec.convert(data, _KeyFile)
    except msgspec.ValidationError as error:
        field, message = shape_fault(error)
        rights = ", ".join(right.value for right in Right)
        raise KeyFileError(
            f"{path}: {field}: {message}; the file is a list [[keys]], each with a key, and "
            f"perhaps rights ({rights}) and sessions"
        ) from None
    except (msgspec.MsgspecError, tomllib.TOMLDecodeError) as error:
        raise KeyFileError(f"{path}: {error}") from None
    keys = [Key(e.key, frozenset(e.rights), tuple(e.sessions)) for e in found.keys]
    for key in keys:
        try:
            _check(key)
        except KeyFileError as error:
            raise KeyFileError(f"{path}: {error}") from None
    return keys
