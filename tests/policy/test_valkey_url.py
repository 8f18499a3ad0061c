"""Where the server of shared budgets is."""

import pytest

from gpubalancer.policy.valkey_url import Address, read_address
from tests.policy.reading import BACKEND, faults, read


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("valkey://10.0.0.5", Address((("10.0.0.5", 6379),))),
        ("valkey://10.0.0.5:7000/3", Address((("10.0.0.5", 7000),), database=3)),
        ("valkeys://host:1", Address((("host", 1),), tls=True)),
        ("valkey://:s%40cret@host/", Address((("host", 6379),), password="s@cret")),
        ("valkey://me:secret@[::1]:7", Address((("::1", 7),), user="me", password="secret")),
        (
            "valkey://a,b:1/2?sentinel=budgets",
            Address((("a", 26379), ("b", 1)), sentinel="budgets", database=2),
        ),
    ],
)
def test_what_a_url_names(url: str, address: Address) -> None:
    """Host, port, database, who we are, and Sentinels."""
    assert read_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "valkey://",
        "valkey://a,b",
        "valkey://host/x",
        "valkey://host:0",
        "valkey://host:x",
        "valkey://a,?sentinel=s",
    ],
)
def test_what_names_no_server(url: str) -> None:
    """Each is refused, and `check` says so on its line."""
    with pytest.raises(ValueError):
        read_address(url)
    assert "state.budgets" in faults(BACKEND + f"state: {{budgets: '{url}'}}\n")[0]


def test_a_secret_is_not_shown() -> None:
    """Neither of the address nor of the setting."""
    assert "secret" not in repr(read_address("valkey://me:secret@host"))
    policy = read(BACKEND + "state: {budgets: 'valkey://me:secret@host', budgets_outage: share}\n")
    assert "secret" not in repr(policy.state)
    assert policy.state.budgets_url == "valkey://me:secret@host"
