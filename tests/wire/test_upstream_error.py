"""What a failed attempt tells."""

from gpubalancer.wire.upstream_error import UpstreamError


def test_a_failure_tells_its_phase_and_nothing_else_unless_it_is_known() -> None:
    """By default the connection was fresh, something had come, and time was not the cause."""
    error = UpstreamError("the backend closed the connection", "body")
    assert str(error) == "the backend closed the connection"
    assert (error.phase, error.reused, error.silent, error.timed_out) == ("body", False, False, False)


def test_a_stale_connection_is_told_apart() -> None:
    """A connection that had served before and stayed silent may just have been closed for being idle."""
    error = UpstreamError("gone", "head", reused=True, silent=True, timed_out=True)
    assert (error.phase, error.reused, error.silent, error.timed_out) == ("head", True, True, True)
