"""What a worker sees of the fleet."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gpubalancer.board.board import Board
from gpubalancer.board.burdens import Burdens
from gpubalancer.board.layout import Hardware, Loaded
from gpubalancer.board.prefixes import LEAST_BYTES, Prefixes
from gpubalancer.board.slots import Slots
from gpubalancer.brain.fleet import build_fleet
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import FEW
from gpubalancer.brain.prefix import CacheShares
from gpubalancer.domain.work import Prefix, Work
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.judging import Judge
from gpubalancer.proxy.outlook import FRESH_S, Outlook


class View:
    """One worker's outlook over a number of backends, at 100 s."""

    def __init__(self, folder: Path, count: int) -> None:
        names = [f"b{number}" for number in range(count)]
        self.board = Board.create(folder / "board", workers=1, backends=count)
        self.rows = self.board.assign_rows(names)
        self.board.up[list(self.rows.values())] = 1
        self.slots = Slots(self.board, 0)
        backends = [{"name": name, "url": "http://127.0.0.1:9", "models": ["m"], "slots": 4} for name in names]
        self.policy = Policy.model_validate({"backends": backends})
        self.outlook, self.now_s = Outlook(self.board, self.slots.total), 100.0
        self.judge = self.another()

    def another(self) -> Judge:
        """The judge of another generation."""
        return Judge(self.policy, build_fleet(self.policy, self.rows, {}))

    def live(self, after_s: float = 2 * FRESH_S) -> Live:
        """The fleet, a moment later."""
        self.now_s += after_s
        return self.outlook.live(self.judge, self.now_s, None)


@pytest.fixture(params=[2, FEW + 1])
def view(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[View]:
    """A small fleet, which is seen as lists, and a large one, which is seen as columns."""
    made = View(tmp_path, request.param)
    yield made
    made.slots.close()
    made.board.close()


def test_slots_and_tokens_are_read_for_every_choice(view: View) -> None:
    """What was taken a moment ago is seen."""
    view.live()
    row = view.rows["b1"]
    view.slots.take(row, 4)
    Burdens(view.board, view.slots).add(row, 100, 150)
    live = view.live(after_s=0.0)
    assert list(live.in_flight[:2]) == [0, 1]
    assert live.prefill_tokens is not None
    assert list(live.prefill_tokens[:2]) == [0, 100]
    assert live.context_tokens is not None
    assert list(live.context_tokens[:2]) == [0, 150]


def test_a_slot_that_was_lost_makes_its_backend_full(view: View) -> None:
    """For the rest of this choice."""
    lost = np.zeros(len(view.rows), dtype=np.bool_)
    lost[1] = True
    assert list(view.outlook.live(view.judge, 100.0, lost).in_flight[:2]) == [0, 4]


def test_probes_are_seen_a_moment_later_and_at_once_by_another_generation(view: View) -> None:
    """A reload that brings a backend must not wait for the next look."""
    view.live()
    view.board.up[view.rows["b0"]] = 0
    assert list(view.live(after_s=0.0).up[:2]) == [True, True]
    assert list(view.live().up[:2]) == [False, True]
    view.board.up[view.rows["b0"]] = 1
    view.judge = view.another()
    assert list(view.live(after_s=0.0).up[:2]) == [True, True]


@pytest.mark.parametrize("state", [Loaded.LOADING, Loaded.SLEEPING, Loaded.LOADING | Loaded.SLEEPING])
def test_an_engine_that_loads_or_sleeps_is_not_up(view: View, state: Loaded) -> None:
    """It would hold what it is given."""
    view.board.loaded[view.rows["b1"]] = state
    assert list(view.live().up[:2]) == [True, False]


def test_broken_hardware_drains(view: View) -> None:
    """Requests there may end; nobody follows."""
    view.board.hardware[view.rows["b0"]] = Hardware.FAULTY
    view.board.hardware[view.rows["b1"]] = Hardware.THROTTLED
    assert list(view.live().draining[:2]) == [True, False]


def test_what_others_have_there_is_believed_the_less_the_older_it_is(view: View) -> None:
    """Our own share at that time is taken off; without a word there is nobody."""
    assert view.live().others is None
    row = view.rows["b1"]
    view.board.running[row], view.board.waiting[row], view.board.scraped_in_flight[row] = 6, math.nan, 2
    view.board.scraped_s[row] = view.now_s
    fresh, old = view.live().others, view.live(after_s=view.judge.fades_s).others
    assert fresh is not None
    assert old is not None
    assert fresh.requests[0] == 0
    assert fresh.requests[1] == pytest.approx(4, rel=0.02)
    assert old.requests[1] == pytest.approx(4 / math.e, rel=0.02)


def test_a_throttled_clock_is_seen(view: View) -> None:
    """And what is not known is full speed."""
    assert view.live().speed_fraction is None
    row = view.rows["b0"]
    view.board.speed_fraction[row], view.board.gpu_at_s[row] = 0.5, view.now_s
    speed = view.live().speed_fraction
    assert speed is not None
    assert list(speed[:2]) == [pytest.approx(0.5, abs=0.01), 1.0]


def asked(prompt_tokens: int, *names: int) -> Work:
    """A chat of which each name stands for as many bytes."""
    ends = tuple(256 * (at + 1) for at in range(len(names)))
    work = Work("chat", "m", 0, streamed=False, deadline_s=math.inf, prompt_tokens=prompt_tokens)
    work.prefix = Prefix(names, ends, ends[-1])
    return work


def test_who_has_read_a_prompt_before_is_known_in_tokens(view: View, tmp_path: Path) -> None:
    """As a share of the prompt's own tokens, times what the backend was seen to keep, less the last token."""
    table, shares = Prefixes.create(tmp_path / "prefixes", LEAST_BYTES, view.board), CacheShares()
    outlook = Outlook(view.board, view.slots.total, table, shares)
    names = [number << 40 for number in range(1, 5)]
    table.enter(names, view.rows["b0"], 100)
    table.enter(names[:2], view.rows["b1"], 100)
    found = outlook.cached(view.judge, asked(1000, *names), 101.0)
    assert found is not None
    assert found.foreseen == {0: 1000.0, 1: 500.0}
    assert list(found.tokens[:2]) == [999.0, 500.0]
    shares.learn("b1", 1e9, 0)
    again = outlook.cached(view.judge, asked(1000, *names), 101.0)
    assert again is not None
    assert list(again.tokens[:2]) == [999.0, 0.0]
    cached = outlook.live(view.judge, 101.0, None, found).cached_tokens
    assert cached is not None
    assert list(cached[:2]) == [999.0, 500.0]


def test_nobody_has_read_what_has_no_names_or_is_remembered_nowhere(view: View, tmp_path: Path) -> None:
    """Nor counts a row that is no backend's of this fleet any more."""
    table = Prefixes.create(tmp_path / "prefixes", LEAST_BYTES, view.board)
    outlook, named = Outlook(view.board, view.slots.total, table), asked(1000, 1 << 40, 2 << 40)
    nameless = asked(1000, 1 << 40)
    nameless.prefix = None
    assert outlook.cached(view.judge, nameless, 101.0) is None
    assert outlook.cached(view.judge, named, 101.0) is None
    assert view.outlook.cached(view.judge, named, 101.0) is None
    table.enter([1 << 40, 2 << 40], 1000, 100)
    gone = outlook.cached(view.judge, named, 101.0)
    assert gone is not None
    assert not any(gone.tokens)


def test_where_too_few_are_up_those_that_can_be_reached_count(view: View) -> None:
    """Of a pool that probes have given up; not one that sleeps."""
    rows = list(view.rows.values())
    view.board.up[rows] = 0
    view.board.reachable[rows] = 1
    view.board.reachable[rows[1]] = 0
    assert list(view.live().up[:2]) == [True, False]
    view.board.loaded[rows[0]] = Loaded.SLEEPING
    assert list(view.live().up[:2]) == [False, False]
    view.board.loaded[rows[0]] = 0
    view.board.up[rows[1:]] = 1
    assert list(view.live().up[:2]) == [False, True]
