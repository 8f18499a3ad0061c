"""The policy's part and the measured part of a choice."""

import pytest

from gpubalancer.brain.method import FEW
from tests.brain.economies import method, row


@pytest.mark.parametrize(("count", "is_few"), [(1, True), (FEW, True), (FEW + 1, False)])
def test_small_fleets_are_weighed_by_rows(count: int, is_few: bool) -> None:
    """Up to `FEW` backends there are rows, above it blocks that hold them all."""
    made = method([row()] * count)
    assert len(made.rows) == (count if is_few else 0)
    assert sum(part.stop - part.start for part, _ in made.blocks) == (0 if is_few else count)


def test_the_policy_says_how() -> None:
    """Mode, weights and SLO are the policy's; an SLO without a figure is none."""
    assert method([row()], mode="frugal").frugal
    assert not method([row()]).frugal
    assert method([row()]).slo is None
    assert method([row()], slo={"ttft_per_1k_prompt_tokens": "1s"}).slo is None
    made = method([row()], slo={"tpot": "100ms"}, weights={"output": 0.25})
    assert made.slo is not None
    assert made.slo.tpot_s == 0.1
    assert made.weights.output == 0.25
