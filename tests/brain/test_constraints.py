"""Which constraint drops a backend."""

import numpy as np
import pytest
from hypothesis import given

from gpubalancer.brain.constraints import candidate_indices, candidates, reasons
from tests.brain import policies
from tests.brain.economies import Case, cases, fleet, live, request


@pytest.mark.parametrize(
    ("up", "draining", "in_flight", "tried", "expected"),
    [
        ((False, True), (False, False), [0, 4], None, ["down", "slots"]),
        ((False, True), (True, True), [0, 4], None, ["down", "draining"]),
        ((True, True), (False, False), [4, 4], (True, False), ["tried", "slots"]),
        ((True, True), (False, False), [3, 0], (False, False), [None, None]),
    ],
)
def test_the_first_constraint_is_the_reason(
    up: tuple[bool, ...],
    draining: tuple[bool, ...],
    in_flight: list[int],
    tried: tuple[bool, ...] | None,
    expected: list[str | None],
) -> None:
    """Down before draining before tried before slots."""
    flags = None if tried is None else np.array(tried)
    assert reasons(fleet(2, 4), request(), live(in_flight, up=up, draining=draining), flags) == expected


def test_what_can_never_serve_is_told_first() -> None:
    """A backend that is down and speaks another API is dropped for the API."""
    state = live([0, 0, 0], up=[True, True, False])
    assert reasons(policies.fleet(), policies.work(), state, None) == [None, None, "api"]


@given(cases())
def test_candidates_are_those_without_a_reason_but_slots(case: Case) -> None:
    """The quick forms and the reasons agree, and neither changes what the fleet keeps."""
    for _ in range(2):
        found = reasons(case.fleet, case.work, case.live, case.tried)
        flags = candidates(case.fleet, case.work, case.live, case.tried)
        assert flags.tolist() == [reason in (None, "slots") for reason in found]
        assert candidate_indices(case.fleet, case.work, case.live, case.tried) == flags.nonzero()[0].tolist()
