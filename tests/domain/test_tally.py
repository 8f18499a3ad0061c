"""The tally: what each outcome counts as, and that nothing is lost between workers and supervisor."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.domain.audit import Predicted
from gpubalancer.domain.errors import FAILURES
from gpubalancer.domain.outcome import Outcome
from gpubalancer.domain.tally import BOUNDS, COUNTERS, OTHER, OVERHEAD_BOUNDS_S, Histogram, Tally

SERVED = {
    "request_id": "r",
    "started_s": 10.0,
    "tenant": "acme",
    "api": "chat",
    "model": "m",
    "backend": "b",
    "status": 200,
    "sent_s": 10.25,
    "first_token_s": 10.5,
    "last_token_s": 12.5,
    "ended_s": 13.0,
    "streamed": True,
    "prompt_tokens": 100,
    "cached_tokens": 60,
    "completion_tokens": 5,
    "usage_source": "reported",
}
KEY = ("acme", "chat", "m", "b", 200)


def outcome(**changed: object) -> Outcome:
    """A served stream, with changes."""
    return Outcome(**(SERVED | changed))  # type: ignore[arg-type]


def sums(tally: Tally) -> dict[str, object]:
    """Everything that a tally holds, as plain values that can be compared."""
    return {
        "cells": {key: [getattr(cell, name) for name in COUNTERS] for key, cell in tally.cells.items()},
        "spreads": {
            (*key, name): (getattr(spread, name).counts, getattr(spread, name).sum)
            for key, spread in tally.spreads.items()
            for name in BOUNDS
        },
        "refused": tally.refused,
        "overhead": (tally.overhead_s.counts, tally.overhead_s.sum),
        "ends": (tally.upstream_cancelled, tally.streams_broken),
    }


def test_a_served_stream_counts_its_times_and_tokens() -> None:
    """One stream adds one request, its tokens, and one value to each histogram."""
    tally = Tally()
    tally.add(outcome())
    cell = tally.cells[KEY]
    assert [getattr(cell, name) for name in COUNTERS] == [1, 100, 60, 5, 1, 0, 0, 0]
    spread = cell.spread
    assert spread is tally.spreads[KEY[1:]]
    assert (spread.request_s.sum, spread.ttft_s.sum, spread.tpot_s.sum) == (3.0, 0.5, 0.5)
    assert (spread.prompt_tokens.sum, spread.completion_tokens.sum) == (100.0, 5.0)
    assert tally.overhead_s.sum == 0.25
    assert tally.refused == {}


def test_tenants_share_histograms_and_not_counters() -> None:
    """Two tenants on one backend have two cells and one spread."""
    tally = Tally()
    tally.add(outcome())
    tally.add(outcome(tenant="other-co"))
    assert len(tally.cells) == 2
    assert len(tally.spreads) == 1
    assert sum(tally.spreads[KEY[1:]].request_s.counts) == 2


def test_an_answer_at_once_has_no_time_to_first_token() -> None:
    """TTFT and TPOT are told of streams only; a whole answer's first byte would tell its length."""
    tally = Tally()
    tally.add(outcome(streamed=False))
    spread = tally.spreads[KEY[1:]]
    assert sum(spread.request_s.counts) == 1
    assert sum(spread.ttft_s.counts) == sum(spread.tpot_s.counts) == 0


def test_a_stream_of_one_token_has_no_time_per_token() -> None:
    """TPOT needs two tokens."""
    tally = Tally()
    tally.add(outcome(completion_tokens=1))
    spread = tally.spreads[KEY[1:]]
    assert sum(spread.ttft_s.counts) == 1
    assert sum(spread.tpot_s.counts) == 0


def test_tokens_are_counted_by_where_they_come_from() -> None:
    """Usage is reported, counted, estimated, or absent when nothing was taken; a disputed report counts as such."""
    tally = Tally()
    tally.add(outcome(usage_source="counted", usage_doubts=("huge", "missing")))
    tally.add(outcome(usage_source="estimated"))
    tally.add(outcome(usage_source="reported", prompt_tokens=0, completion_tokens=0))
    tally.add(outcome(usage_source="", prompt_tokens=0, completion_tokens=0))
    cell = tally.cells[KEY]
    assert (cell.requests, cell.usage_reported, cell.usage_counted, cell.usage_estimated) == (4, 1, 1, 1)
    assert cell.usage_disputed == 1


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_every_way_to_fail_is_counted_once(code: str) -> None:
    """A failure is a refusal, a cancelled request or a backend's failure, by the table's blame."""
    tally = Tally()
    tally.add(outcome(reason=code, status=FAILURES[code].status))
    if code == "client_left":
        assert (tally.refused, tally.upstream_cancelled) == ({}, 1)
    elif code in {"backend_failed", "timed_out"}:
        assert (tally.refused, tally.upstream_cancelled) == ({}, 0)
    else:
        assert tally.refused == {("acme", code): 1}
    assert tally.streams_broken == 0


def test_a_client_that_leaves_before_anything_was_sent_cancels_nothing() -> None:
    """Without a request upstream there is nothing to cancel and no overhead to tell."""
    tally = Tally()
    tally.add(outcome(reason="client_left", sent_s=0.0))
    assert tally.upstream_cancelled == 0
    assert sum(tally.overhead_s.counts) == 0
    assert tally.cells[("acme", "chat", "m", "b", 499)].requests == 1


def test_a_broken_stream_counts_as_such() -> None:
    """A backend's failure after a good status, a stall as well, is a broken stream under code 502."""
    tally = Tally()
    tally.add(outcome(reason="backend_failed", status=200))
    tally.add(outcome(reason="timed_out", status=200))
    tally.add(outcome(reason="timed_out", status=504))
    assert tally.streams_broken == 2
    assert tally.cells[("acme", "chat", "m", "b", 502)].requests == 2
    assert tally.cells[("acme", "chat", "m", "b", 504)].requests == 1


def test_a_bucket_includes_its_bound() -> None:
    """Prometheus buckets are `le`: a value on the bound belongs below it, the next above."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.sum == 7.5


def test_a_taken_delta_is_gone() -> None:
    """After a take the next delta is empty."""
    tally = Tally()
    tally.add(outcome())
    tally.add(outcome(reason="no_backend", status=503))
    tally.take_delta()
    assert tally.take_delta() == {
        "cells": [],
        "spreads": [],
        "refused": [],
        "tiers": [],
        "spent": [],
        "budget_actions": [],
        "errors": [],
        "overhead_s": None,
        "upstream_cancelled": 0,
        "streams_broken": 0,
    }


def test_a_delta_of_other_buckets_is_refused() -> None:
    """A delta whose histogram has another length raises and does not count."""
    tally = Tally()
    with pytest.raises(ValueError, match="argument"):
        tally.overhead_s.merge([1, 2, 3], 1.0)
    assert tally.overhead_s.counts == [0] * (len(OVERHEAD_BOUNDS_S) + 1)


# Times are multiples of 1/1024 s, so that sums are exact in any order.
OUTCOMES = st.builds(
    outcome,
    tenant=st.sampled_from(["t0", "t1", "t2"]),
    api=st.sampled_from(["chat", "embeddings"]),
    model=st.sampled_from(["m0", "m1"]),
    backend=st.sampled_from(["b0", "b1", "-"]),
    status=st.sampled_from([0, 200, 400, 429, 503]),
    reason=st.sampled_from(["", *FAILURES]),
    streamed=st.booleans(),
    usage_source=st.sampled_from(["", "reported", "counted", "estimated"]),
    usage_doubts=st.sampled_from([(), ("huge",)]),
    sent_s=st.integers(10240, 10300).map(lambda tick: tick / 1024) | st.just(0.0),
    ended_s=st.integers(10300, 99999).map(lambda tick: tick / 1024),
    prompt_tokens=st.integers(0, 10**6),
    completion_tokens=st.sampled_from([0, 1, 2, 5, 9, 17]),
)


@given(st.lists(st.tuples(st.integers(0, 2), OUTCOMES | st.none()), max_size=40))
def test_merged_deltas_of_workers_are_one_tally(events: list[tuple[int, Outcome | None]]) -> None:
    """Three workers that ship deltas at any moments, through JSON, give the counts of one that saw everything."""
    workers, merged, one = [Tally(), Tally(), Tally()], Tally(), Tally()
    for index, event in events:
        if event is None:
            merged.merge(orjson.loads(orjson.dumps(workers[index].take_delta())))
        else:
            workers[index].add(event)
            one.add(event)
    for worker in workers:
        merged.merge(orjson.loads(orjson.dumps(worker.take_delta())))
    assert sums(merged) == sums(one)


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 999)), min_size=1, max_size=60))
def test_names_from_outside_cannot_make_it_grow(requests: list[tuple[str, int]]) -> None:
    """Past the limit everything is `other`, at most one cell a hundred of codes, and no request is lost."""
    tally, merged = Tally(cells_limit=5), Tally(cells_limit=3)
    for model, status in requests:
        tally.add(outcome(model=model, tenant=model, status=status, reason="no_backend"))
    assert len(tally.cells) <= 5 + 10
    assert len(tally.spreads) <= 5 + 10
    assert len(tally.refused) <= 5 + 1
    merged.merge(tally.take_delta())
    assert len(merged.cells) <= 3 + 10
    assert sum(cell.requests for cell in merged.cells.values()) == len(requests)
    assert sum(merged.refused.values()) == len(requests)
    if len({model for model, _ in requests}) > 5:
        assert any(key[2] == OTHER for key in tally.cells)


def test_tiers_are_counted_by_what_decided_them_and_survive_a_way_through_json() -> None:
    """Two tallies add up, whatever decided the tier."""
    worker, whole = Tally(), Tally()
    for source in ("tenant", "tenant", "detector:iban"):
        ended = outcome()
        ended.tier, ended.tier_source = "internal", source
        worker.add(ended)
    delta = json.loads(json.dumps(worker.take_delta()))
    whole.merge(delta)
    whole.merge(delta)
    assert whole.tiers == {("internal", "tenant"): 4, ("internal", "detector:iban"): 2}


def test_money_and_energy_are_summed_by_who_pays_and_where() -> None:
    """Requests that cost nothing leave no row."""
    worker, whole = Tally(), Tally()
    for usd, joules in ((0.5, 10.0), (0.25, 5.0), (0.0, 0.0)):
        ended = outcome()
        ended.usd, ended.joules = usd, joules
        worker.add(ended)
    whole.merge(json.loads(json.dumps(worker.take_delta())))
    assert whole.spent == {("acme", "b"): [0.75, 15.0]}


def test_predictions_are_held_against_what_came() -> None:
    """Each by its ratio; what the engine did not report is compared with nothing."""
    tally, total = Tally(), Tally()
    came = Outcome("r", 0.0, sent_s=1.0, first_token_s=2.0, last_token_s=2.9, streamed=True, ended_s=3.0)
    came.predicted = Predicted(100, 10, 49, 0.5, 0.2)
    came.prompt_tokens, came.completion_tokens, came.usage_source = 200, 10, "estimated"
    tally.add(came)
    came.cached_tokens, came.cached_known, came.usage_source = 24, True, "reported"
    tally.add(came)
    total.merge(orjson.loads(orjson.dumps(tally.take_delta())))
    sums = {what: (sum(errors.counts), round(errors.sum, 9)) for what, errors in total.errors.items()}
    assert sums == {
        "prompt_tokens": (1, 2.0),
        "output_tokens": (1, 1.0),
        "cached_tokens": (1, 0.5),
        "ttft": (2, 4.0),
        "tpot": (2, 1.0),
    }
    assert not any(any(errors.counts) for errors in tally.errors.values())
