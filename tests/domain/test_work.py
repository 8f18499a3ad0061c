"""The record of what is asked for."""

from gpubalancer.domain.work import Work


def test_work_asks_for_nothing_special_unless_told() -> None:
    """By default the model may be renamed, any kind and label will do, and nobody need claim the path."""
    work = Work(api="chat", model="m", tier=0, streamed=False, deadline_s=float("inf"))
    assert (work.sent_name, work.kinds, work.labels, work.claim, work.upgrade) == (None, None, frozenset(), None, False)
