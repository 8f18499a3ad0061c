"""Whether a server is asked at all."""

from gpubalancer.valkey.breaker import FAILURES, Breaker


def test_it_is_closed_by_a_sign_of_life_alone() -> None:
    """At the beginning nothing is known of the server."""
    breaker = Breaker()
    breaker.answered()
    assert repr(breaker) == "<Breaker open, 0 failures>"
    breaker.close()
    assert repr(breaker) == "<Breaker closed, 0 failures>"


def test_failures_in_a_row_open_it() -> None:
    """One that is answered in between begins a new row."""
    breaker = Breaker(is_open=False)
    for _ in range(FAILURES - 1):
        breaker.failed()
    breaker.answered()
    for _ in range(FAILURES - 1):
        breaker.failed()
    assert not breaker.is_open
    breaker.failed()
    assert (breaker.is_open, breaker.opened) == (True, 1)
    breaker.open()
    assert breaker.opened == 1
    breaker.close()
    breaker.open()
    assert breaker.opened == 2
