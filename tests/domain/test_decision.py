"""Decisions and their reasons."""

from gpubalancer.domain.decision import Decision


def test_waiting_helps_where_a_slot_is_missing() -> None:
    """A decision without a choice is worth waiting for if some backend lacks nothing but a slot."""
    assert Decision(None, ("down", "slots")).only_full
    assert not Decision(None, ("down", "clearance")).only_full
    assert not Decision(1).only_full
