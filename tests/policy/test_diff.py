"""What a reload changes."""

import pytest

from gpubalancer.policy.diff import PolicyChange, diff
from tests.policy.reading import BACKEND, read

NOTHING = PolicyChange((), (), (), ())


def test_an_equal_policy_changes_nothing() -> None:
    """Read twice, nothing differs."""
    assert diff(read(BACKEND), read(BACKEND)) == NOTHING


def test_backends_are_known_by_their_names() -> None:
    """One stays, one changes, one goes, one comes."""
    old = read("backends: [{name: a, url: 'http://a'}, {name: b, url: 'http://b'}, {name: c, url: 'http://c'}]")
    new = read(
        "backends: [{name: d, url: 'http://d'}, {name: b, url: 'http://b', slots: 5}, {name: c, url: 'http://c'}]"
    )
    assert diff(old, new) == PolicyChange(("d",), ("a",), ("b",), ())


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        ("listen: {port: 9}", ("listen.port",)),
        (
            "listen: {limits: {head_timeout: 1s, body_bytes: 1MiB}}",
            ("listen.limits.body_bytes", "listen.limits.head_timeout"),
        ),
        ("listen: {host: '::1'}\nadmin: {host: localhost, port: 9}", ("listen.host", "admin.host", "admin.port")),
        ("state: {directory: /x, ledger: 'postgresql://a:hush@b'}", ("state.directory", "state.ledger")),
        ("admin: {token: hush}", ()),
        ("routing: {queue: {limit: 5}}", ()),
    ],
)
def test_what_needs_a_restart(settings: str, paths: tuple[str, ...]) -> None:
    """Sockets, limits, the state folder and its stores; the rest comes into force at once. Values are not told."""
    assert diff(read(BACKEND), read(BACKEND + settings)) == PolicyChange((), (), (), paths)


def test_tls_that_comes_is_one_change() -> None:
    """A section that one side lacks is told as a whole."""
    old = read(BACKEND)
    new = old.model_copy(update={"listen": old.listen.model_copy(update={"tls": object()})})
    assert diff(old, new).needs_restart == ("listen.tls",)
