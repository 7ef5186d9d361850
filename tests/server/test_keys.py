"""Keys: who is let in, and to what."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace_server.keys import Key, KeyFileError, KeyRing, Right, load_keys
from tailrace_server.protocol.message import HeaderList, Request


def req(*headers: tuple[str, str]) -> Request:
    return Request("GET", "/", "", tuple(headers), b"")


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ((("authorization", "Bearer secret"),), True),
        ((("authorization", "bearer  secret"),), True),
        ((("x-api-key", "secret"),), True),
        ((("authorization", "Basic eDp5"), ("x-api-key", "secret")), True),
        ((("authorization", "Bearer wrong"), ("x-api-key", "secret")), True),
        ((), False),
        ((("authorization", "secret"),), False),
        ((("authorization", "Bearer"),), False),
        ((("authorization", "Bearer "),), False),
        ((("authorization", "Bearer secret2"),), False),
        ((("authorization", "Bearer Secret"),), False),
        ((("x-api-key", ""),), False),
        ((("x-api-key", "secre"),), False),
        ((("x-api-key", "x" * 100_000),), False),
        ((("x-api-key", "\xff"),), False),
    ],
)
def test_a_key_is_taken_from_either_header(headers: HeaderList, known: bool) -> None:
    ring = KeyRing(["other", "secret"])
    assert (ring.authenticate(req(*headers)) is not None) is known


def test_without_keys_everything_is_open() -> None:
    grant = KeyRing().authenticate(req())
    assert grant is not None and grant.unlimited
    assert all(grant.allows(right, "any") for right in Right)


def test_rights_and_prefixes() -> None:
    key = Key("k", frozenset({Right.READ}), ("team-*", "one"))
    grant = KeyRing([key]).authenticate(req(("x-api-key", "k")))
    assert grant is not None and not grant.unlimited
    assert grant.allows(Right.READ, "team-1") and grant.allows(Right.READ, "one")
    assert not grant.allows(Right.READ, "one2") and not grant.allows(Right.READ, "other")
    assert not grant.allows(Right.APPEND, "team-1")


def test_replacing_keys_revokes_what_is_gone_or_changed() -> None:
    ring = KeyRing(["a", "b", Key("c")])
    grants = {name: ring.authenticate(req(("x-api-key", name))) for name in "abc"}
    told = []
    ring.on_change = lambda: told.append(True)
    ring.replace(["a", Key("c", frozenset({Right.READ}))])
    assert told
    a, b, c = grants["a"], grants["b"], grants["c"]
    assert a is not None and not a.revoked
    assert b is not None and b.revoked and not b.allows(Right.READ, "x")
    assert c is not None and c.revoked
    assert ring.authenticate(req(("x-api-key", "b"))) is None


def test_the_first_key_revokes_the_open_grant() -> None:
    ring = KeyRing()
    grant = ring.authenticate(req())
    ring.replace(["a"])
    assert grant is not None and grant.revoked
    assert ring.authenticate(req()) is None


@pytest.mark.parametrize("secret", ["", " a", "a\n", "x" * 2000, "a\x00b"])
def test_a_bad_key_is_refused(secret: str) -> None:
    with pytest.raises(KeyFileError):
        KeyRing([secret])


def test_a_key_listed_twice_is_refused() -> None:
    with pytest.raises(KeyFileError, match="twice"):
        KeyRing(["a", "a"])


def test_key_files(tmp_path: Path) -> None:
    toml = tmp_path / "keys.toml"
    toml.write_text(
        '[[keys]]\nkey = "a"\n[[keys]]\nkey = "b"\nrights = ["read"]\nsessions = ["x*"]\n'
    )
    json = tmp_path / "keys.json"
    json.write_text('{"keys":[{"key":"a"},{"key":"b","rights":["read"],"sessions":["x*"]}]}')
    wanted = [Key("a"), Key("b", frozenset({Right.READ}), ("x*",))]
    assert load_keys(toml) == wanted
    assert load_keys(json) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "[[keys]]",
        '[[keys]]\nkey = ""',
        '[[keys]]\nkey = "a"\nrights = ["all"]',
        '[[keys]]\nkey = "a"\nright = ["read"]',
        "keys = 3",
        "[[",
        '[[keys]]\nkey="a"\nsessions=[]',
    ],
)
def test_a_bad_key_file_says_where(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(KeyFileError, match=r"keys\.toml"):
        load_keys(path)


def test_a_key_file_of_another_shape_is_told_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    for text in ('[[keys]]\nkey = "a"\nrights = ["write"]', 'key = "a"'):
        path.write_text(text)
        with pytest.raises(KeyFileError, match=r"\[\[keys\]\].*read, append, manage"):
            load_keys(path)
