"""The result of a choice."""

from gpubalancer.brain.verdict import Choice


def test_only_a_request_that_is_held_should_wait() -> None:
    """Waiting helps where it is held, not where it is chosen, hopeless or unserved."""
    assert Choice(None, wait="hold").only_full
    assert not Choice(None, wait="hopeless").only_full
    assert not Choice(None, ("down", "slots")).only_full
    assert not Choice(0).only_full


def test_a_choice_is_a_decision() -> None:
    """What a `Decision` tells of a prompt that is too long, a choice tells too."""
    assert Choice(None, ("context", "api")).is_too_long
    assert not Choice(None, ("context", "down")).is_too_long
