"""The load on each backend, ours and others' together."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from gpubalancer.brain.cost import Load
from gpubalancer.brain.live import Live, as_list
from gpubalancer.brain.reckon import Others
from tests.brain.economies import Case, cases, live


def test_ours_and_others_add_up() -> None:
    """Requests, queued tokens and context are sums; the cached prefix and the speed are the backend's own."""
    others = Others(np.array([2.0]), np.array([300.0]), np.array([2400.0]))
    now = live(
        [3], prefill_tokens=[50], context_tokens=[900], others=others, cached_tokens=[64.0], speed_fraction=[0.5]
    )
    assert now.load_of(0) == Load(5.0, 350.0, 3300.0, 64.0, 0.5)


def test_what_nothing_is_known_of_is_nothing_at_full_speed() -> None:
    """Without columns there are only our own requests."""
    assert live([3]).load_of(0) == Load(3.0, 0.0, 0.0, 0.0, 1.0)


def as_lists(state: Live) -> Live:
    """The same state with lists for arrays."""
    columns = {name: getattr(state, name) for name in Live._fields if name != "others"}
    lists: dict[str, Any] = {name: None if each is None else as_list(each) for name, each in columns.items()}
    return state._replace(**lists)


@given(cases(most=9))
def test_one_by_one_and_in_columns(case: Case) -> None:
    """The load of one, of each and of a part agree."""
    count, lists = len(case.fleet), as_lists(case.live)
    assert lists.loads(range(count)) == case.live.loads(range(count))
    loads, part = case.live.loads(range(count)), case.live.load(slice(count // 2, count))
    assert loads == [case.live.load_of(index) for index in range(count)]
    for index in range(count // 2, count):
        assert [column[index - count // 2] for column in part] == pytest.approx(list(loads[index]), rel=1e-5)
        assert [column[index] for column in lists.load(slice(0, count))] == pytest.approx(list(loads[index]), rel=1e-5)
