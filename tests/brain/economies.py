"""Fleets, states and requests for tests of the choice: some by hand, any by hypothesis."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gpubalancer.brain.columns import Column, Economy, columns_of, parts_of
from gpubalancer.brain.cost import Load
from gpubalancer.brain.fleet import Fleet
from gpubalancer.brain.live import Live
from gpubalancer.brain.method import Method, method_of
from gpubalancer.brain.priors import prior_of
from gpubalancer.brain.reckon import reckon_others
from gpubalancer.domain.work import Selection, Work
from gpubalancer.policy.routing import Routing


def fleet(
    count: int,
    slots: int | list[int] = 64,
    clearance: list[int] | None = None,
    models: list[frozenset[str]] | None = None,
    kinds: list[str] | None = None,
) -> Fleet:
    """Backends b0, b1, ... that speak chat and serve `m`, unless told otherwise."""
    served = [frozenset("m")] * count if models is None else models
    return Fleet(
        names=tuple(f"b{index}" for index in range(count)),
        rows=np.arange(count),
        slots=np.full(count, slots, np.int32) if isinstance(slots, int) else np.array(slots, np.int32),
        clearance=np.array(clearance or [0] * count, np.int32),
        served=tuple({name: name for name in names} for names in served),
        apis=(frozenset({"chat"}),) * count,
        kinds=tuple(kinds or ["gpu"] * count),
        engines=("vllm",) * count,
        hardware=(None,) * count,
        labels=(frozenset(),) * count,
        claims=((),) * count,
        upgrades=((),) * count,
        aliases={},
        contexts={},
    )


def row(hardware: str | None = None, **changes: float) -> Economy[float]:
    """One backend of a class, without prices."""
    prior = prior_of(hardware, None)
    fields: dict[str, float] = {
        **prior.curves._asdict(),
        "net_s": 0.0,
        "usd_per_prompt_token": 0.0,
        "usd_per_cached_token": 0.0,
        "usd_per_completion_token": 0.0,
        "usd_per_s": 0.0,
        "watts": 0.0,
        "slots": 64.0,
        "ttft_ratio": 1.0,
        "tpot_ratio": 1.0,
    }
    return Economy(**{**fields, **changes})


def method(rows: list[Economy[float]], **routing: Any) -> Method:
    """How a fleet of these is chosen from, by the policy's words."""
    return method_of(Routing.model_validate(routing), columns_of(rows))


def method_with(method: Method, rows: list[Economy[float]]) -> Method:
    """The same method for other backends."""
    economy = columns_of(rows)
    return replace(method, economy=economy, rows=tuple(rows) if method.rows else (), blocks=parts_of(economy, 7))


def live(in_flight: list[int], **columns: Any) -> Live:
    """All are up; the other columns as lists."""
    count = len(in_flight)
    others = columns.pop("others", None)
    made = {name: np.array(values) for name, values in columns.items()}
    flags = {"up": np.ones(count, np.bool_), "draining": np.zeros(count, np.bool_)}
    return Live(in_flight=np.array(in_flight, np.int32), others=others, **{**flags, **made})


def request(prompt_tokens: int = 0, output_tokens: int = 0, tier: int = 0) -> Work:
    """A chat with `m`."""
    return Work("chat", "m", tier, True, float("inf"), prompt_tokens=prompt_tokens, output_tokens=output_tokens)


def load(**fields: float) -> Load[float]:
    """Nothing there, but for what is given."""
    nothing = {"batch": 0.0, "queued_tokens": 0.0, "context_tokens": 0.0, "cached_tokens": 0.0, "speed_fraction": 1.0}
    return Load(**{**nothing, **fields})


@dataclass(frozen=True)
class Case:
    """One decision to make."""

    fleet: Fleet
    work: Work
    live: Live
    tried: np.ndarray[Any, np.dtype[np.bool_]] | None
    method: Method
    waited_s: float
    seed: int


TOKENS = st.integers(0, 20_000)
SENSED = st.one_of(st.floats(0, 300), st.sampled_from((float("nan"), float("inf"), -1.0, 4294967295.0)))
CLASSES = st.sampled_from((None, "h100", "a100", "l40s", "cpu", "cloud"))
ROWS = st.builds(
    row,
    CLASSES,
    slots=st.integers(1, 32).map(float),
    usd_per_s=st.sampled_from((0.0, 1e-4, 1e-3)),
    usd_per_completion_token=st.sampled_from((0.0, 1e-6)),
    watts=st.sampled_from((0.0, 400.0)),
    ttft_ratio=st.floats(1.0, 3.0),
    tpot_ratio=st.floats(1.0, 3.0),
)


def column(draw: st.DrawFn, count: int, values: st.SearchStrategy[Any]) -> Column:
    """One value for each backend."""
    return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype=np.float64)


ZONE_A, ZONE_B = ("zone", "a"), ("zone", "b")
APIS = st.sampled_from((frozenset({"chat"}), frozenset({"chat", "embeddings"}), frozenset({"embeddings"})))
KINDS = st.sampled_from(("gpu", "gpu", "cpu", "cloud", None))
LABELS = st.sampled_from((frozenset(), frozenset({ZONE_A}), frozenset({ZONE_A, ZONE_B})))


def labelled(draw: st.DrawFn, made: Fleet) -> Fleet:
    """The same backends with any APIs, kinds and labels, and perhaps a context limit of the model."""
    size = len(made)
    drawn: dict[str, Any] = {
        name: tuple(draw(st.lists(values, min_size=size, max_size=size)))
        for name, values in (("apis", APIS), ("kinds", KINDS), ("labels", LABELS))
    }
    return replace(made, **drawn, contexts=draw(st.sampled_from(({}, {"m": 4096}))))


def choosy(draw: st.DrawFn, work: Work) -> Work:
    """The same request, perhaps of a tenant or under a rule that does not take every backend."""
    work.counted = draw(st.booleans())
    work.kinds = draw(st.sampled_from((None, None, frozenset({"gpu", "cpu"}))))
    work.labels = draw(st.sampled_from((frozenset(), frozenset(), frozenset({ZONE_A}))))
    work.denied_kinds = draw(st.sampled_from((frozenset(), frozenset(), frozenset({"cloud"}))))
    work.required = draw(st.sampled_from(((), (), (Selection(kinds=frozenset({"gpu", "cloud"})),))))
    return work


@st.composite
def cases(draw: st.DrawFn, most: int = 24) -> Case:
    """Any fleet in any state with any request, gaps and lies of telemetry included."""
    rows = draw(st.lists(ROWS, min_size=1, max_size=most))
    count = len(rows)
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    made = fleet(
        count,
        [int(each.slots) for each in rows],
        draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)),
        draw(
            st.lists(st.sampled_from((frozenset("m"), frozenset("mx"), frozenset("x"))), min_size=count, max_size=count)
        ),
    )
    in_flight = column(draw, count, st.integers(0, 33)).astype(np.int32)
    others = reckon_others(
        column(draw, count, SENSED), column(draw, count, SENSED), in_flight * 1.0, column(draw, count, SENSED), 5.0
    )
    state = Live(
        up=~np.array(draw(flags)) | np.array(draw(flags)),
        draining=np.array(draw(flags)) & np.array(draw(flags)),
        in_flight=in_flight,
        prefill_tokens=column(draw, count, TOKENS) if draw(st.booleans()) else None,
        context_tokens=column(draw, count, TOKENS) if draw(st.booleans()) else None,
        others=others if draw(st.booleans()) else None,
        cached_tokens=column(draw, count, TOKENS) if draw(st.booleans()) else None,
        speed_fraction=column(draw, count, st.floats(0.05, 1.0)) if draw(st.booleans()) else None,
    )
    tried = np.array(draw(flags)) & np.array(draw(flags)) if draw(st.booleans()) else None
    slo = draw(st.sampled_from(({}, {"ttft": "2s"}, {"tpot": "50ms"}, {"ttft": "200ms", "tpot": "20ms"})))
    weights = {"seconds_per_joule": draw(st.sampled_from((0.0, 0.01)))}
    how = method(rows, mode=draw(st.sampled_from(("fast", "frugal"))), slo=slo, weights=weights)
    work = request(draw(TOKENS), draw(st.integers(0, 1000)), draw(st.integers(0, 3)))
    if draw(st.booleans()):
        made, work = labelled(draw, made), choosy(draw, work)
    return Case(made, work, state, tried, how, draw(st.floats(0, 10)), draw(st.integers(0, 1000)))
