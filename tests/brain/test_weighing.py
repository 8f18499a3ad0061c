"""Weighing all candidates: rows and columns give the same figures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from gpubalancer.brain.columns import parts_of
from gpubalancer.brain.weighed import Few, Many
from gpubalancer.brain.weighing import weigh_all
from tests.brain.economies import Case, cases, fleet, live, method, request, row


@settings(max_examples=100)
@given(cases(most=12))
def test_rows_and_columns_agree(case: Case) -> None:
    """In fleets of any state, what is worked out backend by backend is what is worked out in columns, in any blocks."""
    columns = replace(case.method, rows=(), blocks=parts_of(case.method.economy, 5))
    few = weigh_all(case.fleet, case.work, case.live, case.tried, case.method)
    many = weigh_all(case.fleet, case.work, case.live, case.tried, columns)
    if few is None or many is None:
        assert few is many
        return
    assert isinstance(few, Few)
    assert isinstance(many, Many)
    assert few.indices == many.candidates.nonzero()[0].tolist()
    for place, index in enumerate(few.indices):
        ours = [few.weights[place].total_s, few.ttft_s[place], few.tpot_s[place]]
        theirs = [many.total_s[index], many.ttft_s[index], many.tpot_s[index]]
        if many.usd is not None:
            ours, theirs = [*ours, few.weights[place].usd], [*theirs, many.usd[index]]
        assert ours == pytest.approx(theirs, rel=1e-4)
        assert few.shares[place] == pytest.approx(many.shares[index])
        assert few.forecast(place).backend == many.forecast(index).backend == index
        assert few.forecast(place).weight == pytest.approx(many.forecast(index).weight, rel=1e-6)
        assert few.forecast(place).load == pytest.approx(many.forecast(index).load, rel=1e-6)
    assert few.least_ttft_s() == pytest.approx(many.least_ttft_s(), rel=1e-4)
    assert (many.usd is None) == (not case.method.frugal)
    if case.method.slo is not None:
        assert few.idle_best() == pytest.approx(many.idle_best(), rel=1e-4)


def test_nobody_to_weigh() -> None:
    """Without a candidate there is nothing, in either form."""
    down = live([0, 0], up=np.array([False, False]))
    how = method([row(), row()])
    columns = replace(how, rows=(), blocks=parts_of(how.economy, 1))
    assert weigh_all(fleet(2), request(), down, None, how) is None
    assert weigh_all(fleet(2), request(), down, None, columns) is None
