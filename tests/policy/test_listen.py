"""The sections `listen`, `admin` and `state`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.policy.listen import Admin, Listen, State, is_host, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "localhost", "gpu-1.lan", "a_b", "example.com."])
def test_hosts(host: str) -> None:
    """Addresses of both kinds and names are hosts."""
    assert is_host(host)


@pytest.mark.parametrize("host", ["", "*", "1.2.3", "256.1.1.1", "[::1]", "fe80::1%eth0", "a..b", "-a", "a b", "é.com"])
def test_what_is_no_host(host: str) -> None:
    """A mistyped address is not taken for a name."""
    assert not is_host(host)


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_not(text: str) -> None:
    """No text makes the question fail."""
    assert is_host(text) in (True, False)


@pytest.mark.parametrize(
    ("host", "answer"), [("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a.b", False)]
)
def test_loopback(host: str, answer: bool) -> None:
    """Only what no other machine can reach is loopback."""
    assert is_loopback(host) is answer
    assert Listen.model_validate({"host": host}).is_loopback is answer
    assert Admin.model_validate({"host": host}).is_loopback is answer


def test_workers_are_a_number_or_one_per_core() -> None:
    """`auto` is decided on the machine that serves."""
    assert Listen.model_validate({"workers": "auto"}).worker_count(6) == 6
    assert Listen.model_validate({"workers": "3"}).worker_count(6) == 3
    with pytest.raises(ValueError, match="from 1 to 1024, or auto"):
        Listen.model_validate({"workers": 0})


def test_limits_carry_their_units() -> None:
    """The file's words become numbers in the unit of the name."""
    limits = Listen.model_validate({"limits": {"head_bytes": "64KiB", "head_timeout": "250ms"}}).limits
    assert (limits.head_bytes, limits.head_timeout_s, limits.body_bytes) == (65_536, 0.25, 32 << 20)


def test_the_stores_are_built_in_or_servers() -> None:
    """A URL is kept with its password, which never shows."""
    state = State.model_validate({"budgets": "valkey://:hush@10.0.0.5:6379/0", "ledger": "postgresql://u:hush@db/x"})
    assert state.budgets_url == "valkey://:hush@10.0.0.5:6379/0"
    assert state.ledger_url == "postgresql://u:hush@db/x"
    assert "hush" not in repr(state) + state.model_dump_json()
    assert (State().budgets_url, State().ledger_url) == (None, None)


@pytest.mark.parametrize("store", ["redis", "http://a", "valkey://", "valkey://h:99999", "valkey://[", 5])
def test_what_is_no_store(store: object) -> None:
    """Another scheme or a broken URL is refused."""
    with pytest.raises(ValueError, match="local, or a URL such as valkey"):
        State.model_validate({"budgets": store})
