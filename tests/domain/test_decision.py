"""Decisions and their reasons."""

import pytest

from gpubalancer.domain.decision import Decision, Reason


def test_waiting_helps_where_a_slot_is_missing() -> None:
    """A decision without a choice is worth waiting for if some backend lacks nothing but a slot."""
    assert Decision(None, ("down", "slots")).only_full
    assert not Decision(None, ("down", "clearance")).only_full
    assert not Decision(1).only_full


@pytest.mark.parametrize(
    ("dropped", "is_too_long"),
    [
        (("context",), True),
        (("model", "context", "clearance", "rule"), True),
        (("context", "slots"), False),
        (("context", "down"), False),
        (("context", "draining"), False),
        (("context", "tried"), False),
        (("model", "api"), False),
        ((), False),
    ],
)
def test_a_prompt_is_too_long_where_nothing_but_context_lacks(dropped: tuple[Reason, ...], is_too_long: bool) -> None:
    """Backends that could never serve the request don't count; one that may serve it later is another reason."""
    assert Decision(None, dropped).is_too_long is is_too_long
    assert not Decision(0, dropped).is_too_long
