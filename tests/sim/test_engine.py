"""The scheduler: what runs, what waits, what comes out, and when."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubalancer.sim.engine import Engine, Phase, Reason, Request, Step
from gpubalancer.sim.hardware import HARDWARE

H100 = HARDWARE["h100"]


def ask(prompt_tokens: int = 20, output_tokens: int = 3, first: int = 0, salt: int = 0) -> Request:
    """A request whose prompt is `first, first + 1, ...` and whose output is 1000, 1001, ..."""
    prompt = range(first, first + prompt_tokens)
    return Request(prompt, lambda i: 1000 + i, output_tokens, Reason.LENGTH, salt)


def drain(engine: Engine, now_s: float = 0.0, most: int = 10_000) -> list[Step]:
    """All steps until nothing is left."""
    steps = []
    while (step := engine.begin_step(now_s)) is not None:
        steps.append(engine.end_step())
        now_s = step.ends_s
        assert len(steps) < most
    return steps


def test_one_request_takes_what_the_formulas_say() -> None:
    """Alone, the first token comes after prefill(n), each further one after step(1, context)."""
    engine, request = Engine(H100), ask(100, 3)
    engine.submit(request, 5.0)
    steps = drain(engine, 5.0)
    assert [step.duration_s for step in steps] == pytest.approx(
        [H100.prefill_s(100), H100.step_s(1, 101), H100.step_s(1, 102)]
    )
    assert [token for step in steps for _, token in step.tokens] == [1000, 1001, 1002]
    assert steps[-1].finished == [(request, Reason.LENGTH)]
    assert request.first_token_s == pytest.approx(5.0 + H100.prefill_s(100))


def test_a_long_prompt_is_read_in_chunks() -> None:
    """A prompt beyond the step's budget is read over several steps, and only the last one gives a token."""
    engine = Engine(H100, batch_tokens=64)
    engine.submit(ask(150, 1), 0.0)
    steps = drain(engine)
    assert [count for step in steps for _, count in step.chunks] == [64, 64, 22]
    assert [len(step.tokens) for step in steps] == [0, 0, 1]


def test_prefill_slows_those_that_decode() -> None:
    """A step that reads a prompt beside a decoding request is longer than the decoding alone by the prompt's time."""
    engine = Engine(H100)
    engine.submit(ask(20, 10), 0.0)
    engine.begin_step(0.0)
    engine.end_step()
    engine.submit(ask(500, 1, first=5000), 0.0)
    step = engine.begin_step(0.0)
    assert step is not None
    alone_s = H100.step_s(1, 21)
    assert step.duration_s == pytest.approx(alone_s - H100.d0_s + max(H100.a0_s, H100.d0_s) + H100.chunk_s(0, 500))


def test_slots_limit_and_order_is_first_come() -> None:
    """With two slots the third waits until one is free."""
    engine = Engine(H100, slots=2)
    asks = [ask(20, n, first=100 * n) for n in (3, 5, 2)]
    for request in asks:
        engine.submit(request, 0.0)
    step = engine.begin_step(0.0)
    assert step is not None
    assert step.started == asks[:2]
    assert repr(engine).startswith("<Engine h100 2 running, 1 waiting")
    engine.end_step()
    assert [request for step in drain(engine) for request in step.started] == asks[2:]


def test_a_known_prefix_is_not_read_again() -> None:
    """The second request with the same beginning computes only its last, unshared part, and says what was cached."""
    engine = Engine(H100)
    first, second = ask(100, 1), ask(100, 1)
    engine.submit(first, 0.0)
    cold = drain(engine)[0]
    engine.submit(second, 0.0)
    warm = drain(engine)[0]
    assert (first.cached_tokens, second.cached_tokens) == (0, 96)
    assert warm.chunks[0][1] == 4
    assert warm.duration_s < cold.duration_s


def test_a_prompt_in_memory_still_computes_its_last_token() -> None:
    """A prompt that fills known blocks exactly has its last block computed: that gives the first output."""
    engine = Engine(H100)
    for expected in (0, 16):
        request = ask(32, 1)
        engine.submit(request, 0.0)
        drain(engine)
        assert request.cached_tokens == expected


def test_an_answer_can_be_the_next_prompt_s_prefix() -> None:
    """Blocks filled by output are found by a prompt that repeats it."""
    engine = Engine(H100)
    engine.submit(ask(16, 33), 0.0)
    drain(engine)
    prompt = [*range(16), *range(1000, 1033), 7]
    follow = Request(prompt, lambda i: i, 1)
    engine.submit(follow, 0.0)
    drain(engine)
    assert follow.cached_tokens == 48


def test_salts_keep_prefixes_apart() -> None:
    """The same prompt under another salt finds nothing."""
    engine = Engine(H100)
    requests = [ask(64, 1, salt=salt) for salt in (1, 2)]
    for request in requests:
        engine.submit(request, 0.0)
        drain(engine)
    assert [request.cached_tokens for request in requests] == [0, 0]


def test_the_youngest_is_preempted_and_finishes_all_the_same() -> None:
    """Where blocks run out the last started goes back to the queue's head, and both answers come out whole."""
    engine = Engine(H100, kv_blocks=4)
    old, young, last = ask(30, 20), ask(30, 20, first=500), ask(30, 1, first=900)
    for request in (old, young, last):
        engine.submit(request, 0.0)
    steps = drain(engine)
    assert old.preemptions == 0
    assert young.preemptions >= 1
    produced = {
        request: [token for step in steps for r, token in step.tokens if r is request] for request in (old, young)
    }
    assert produced[young] == produced[old] == list(range(1000, 1020))
    assert [request for step in steps for request, _ in step.finished] == [old, young, last]
    assert engine.pool.held == 0


def test_an_embedding_ends_when_its_prompt_is_read() -> None:
    """No output asked for: no token, one end."""
    engine, request = Engine(H100), ask(20, 0)
    engine.submit(request, 0.0)
    (step,) = drain(engine)
    assert step.tokens == []
    assert step.finished == [(request, Reason.LENGTH)]


def test_cancel_frees_at_once_even_inside_a_step() -> None:
    """A request cancelled while its step runs holds nothing at once, and gets no token at the step's end."""
    engine = Engine(H100, slots=1)
    running, waiting = ask(), ask(first=100)
    engine.submit(running, 0.0)
    engine.submit(waiting, 0.0)
    engine.begin_step(0.0)
    assert engine.cancel(running)
    assert engine.cancel(waiting)
    assert (engine.load, engine.pool.held) == (0, 0)
    assert engine.end_step().tokens == []
    assert not engine.cancel(running)
    assert engine.begin_step(1.0) is None


def test_what_can_never_fit_is_refused() -> None:
    """Prompt and output beyond all blocks, or an empty prompt, are refused at the door."""
    engine = Engine(H100, kv_blocks=2)
    with pytest.raises(ValueError, match="33 tokens do not fit into 2 blocks"):
        engine.submit(ask(30, 3), 0.0)
    with pytest.raises(ValueError, match="do not fit"):
        engine.submit(ask(0, 3), 0.0)
    assert engine.load == 0


def test_steps_must_alternate() -> None:
    """A step begins only after the one before has ended, and ends only once."""
    engine = Engine(H100)
    with pytest.raises(RuntimeError, match="no step has begun"):
        engine.end_step()
    engine.submit(ask(), 0.0)
    engine.begin_step(0.0)
    with pytest.raises(RuntimeError, match="has not ended"):
        engine.begin_step(0.0)


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 90), st.integers(0, 40), st.integers(0, 2)),
        st.tuples(st.just("step"), st.just(0), st.just(0), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 50), st.just(0), st.just(0)),
    ),
    max_size=60,
)


def play(moves: list[tuple[str, int, int, int]]) -> list[str]:
    """Play moves on a small engine, check its rules after each, drain it, and return what happened."""
    engine = Engine(replace(H100, slots=3), kv_blocks=9, batch_tokens=40)
    asks: list[Request] = []
    log: list[str] = []
    ended: list[Request] = []
    now_s = 0.0

    def account(step: Step) -> None:
        log.extend(f"start {asks.index(request)}" for request in step.started)
        log.extend(f"token {asks.index(request)} {token}" for request, token in step.tokens)
        log.extend(f"end {asks.index(request)} {reason}" for request, reason in step.finished)
        ended.extend(request for request, _ in step.finished)

    for kind, a, b, c in moves:
        if kind == "submit":
            asks.append(ask(a, b, first=100 * c))
            engine.submit(asks[-1], now_s)
        elif kind == "cancel" and asks and engine.cancel(asks[a % len(asks)]):
            log.append(f"cancel {a % len(asks)}")
            ended.append(asks[a % len(asks)])
        elif kind == "step" and (step := engine.begin_step(now_s)) is not None:
            account(engine.end_step())
            assert step.duration_s > 0
            now_s = step.ends_s
        check(engine)
    for step in drain(engine, now_s):
        account(step)
    assert sorted(map(id, ended)) == sorted(map(id, asks))
    assert engine.pool.held == 0
    return log


def check(engine: Engine) -> None:
    """Slots, blocks and phases agree."""
    assert len(engine.running) <= engine.slots
    assert engine.pool.held == len({block for request in engine.running for block in request.blocks})
    assert all(request.phase is Phase.RUNNING and request.blocks for request in engine.running)
    assert all(request.phase is Phase.WAITING and not request.blocks for request in engine.waiting)


@settings(max_examples=150, deadline=None)
@given(MOVES)
def test_rules_hold_in_any_order_of_events(moves: list[tuple[str, int, int, int]]) -> None:
    """Slots are kept, blocks conserved, every request ends once, starts are in order, and a replay is identical."""
    log = play(moves)
    starts = [int(line.split()[1]) for line in log if line.startswith("start")]
    assert starts == sorted(starts)
    assert play(moves) == log


def test_a_slower_engine_takes_longer_from_the_next_step_on() -> None:
    """At half the speed every step takes twice as long; the one under way keeps its duration."""
    engine, request = Engine(H100), ask(100, 3)
    engine.submit(request, 0.0)
    step = engine.begin_step(0.0)
    assert step is not None
    engine.speed_fraction = 0.5
    assert step.duration_s == pytest.approx(H100.prefill_s(100))
    engine.end_step()
    assert [step.duration_s for step in drain(engine)] == pytest.approx(
        [2 * H100.step_s(1, 101), 2 * H100.step_s(1, 102)]
    )


def test_what_was_computed_is_counted() -> None:
    """Busy time is the sum of the steps; filled time weights each by its tokens per slot, at most 1."""
    engine = Engine(H100, slots=10)
    engine.submit(ask(100, 3), 0.0)
    assert engine.step_tokens == 0
    engine.begin_step(0.0)
    assert engine.step_tokens == 100
    steps = [engine.end_step(), *drain(engine)]
    durations_s = [step.duration_s for step in steps]
    assert engine.step_tokens == 0
    assert engine.busy_s == pytest.approx(sum(durations_s))
    assert engine.filled_s == pytest.approx(durations_s[0] + 0.1 * sum(durations_s[1:]))
