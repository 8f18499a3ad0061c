"""Who counts as up where too few are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.panic import in_panic

NOBODY = "0000"


def counted(up: str, reachable: str, draining: str = NOBODY, pools: str = NOBODY) -> str:
    """Four backends, a digit for each."""
    columns = [np.array([digit == "1" for digit in flags]) for flags in (up, draining, reachable)]
    flags = in_panic(np.array([int(digit) for digit in pools], dtype=np.intp), *columns)
    return "".join("1" if flag else "0" for flag in flags)


def test_half_of_a_pool_is_enough() -> None:
    """With two of four up the others stay down; with one, those that can be reached come back."""
    assert counted(up="1100", reachable="1111") == "1100"
    assert counted(up="1000", reachable="1101") == "1101"
    assert counted(up="0000", reachable="0110") == "0110"
    assert counted(up="0000", reachable="0000") == "0000"


def test_each_pool_for_itself() -> None:
    """That another model's backends are well says nothing."""
    assert counted(up="1100", reachable="1111", pools="0011") == "1111"
    assert counted(up="1110", reachable="1111", pools="0011") == "1110"


def test_who_is_drained_is_not_missed() -> None:
    """Draining is the operator's wish and no illness: it makes no panic."""
    assert counted(up="0011", reachable="1111", draining="1100") == "0011"


@given(*[st.text("01", min_size=4, max_size=4)] * 3)
def test_nobody_is_lost_and_nobody_unreachable_comes_in(up: str, reachable: str, draining: str) -> None:
    """Whatever the state."""
    flags = counted(up, reachable, draining)
    assert all(is_up <= flag <= max(is_up, can) for is_up, flag, can in zip(up, flags, reachable, strict=True))
