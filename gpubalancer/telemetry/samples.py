"""The numbers behind the metrics: what a tally holds, summed to the labels that a metric shows.

Each function takes `Sources` and gives label values with a number or a histogram. Nothing here knows a metric's name.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpubalancer.board.layout import Hardware
from gpubalancer.domain.outcome import NOBODY
from gpubalancer.domain.tally import BOUNDS, Histogram, SpreadKey, Tally
from gpubalancer.telemetry.gpus import Gpu, Snapshot
from gpubalancer.telemetry.hardware import State

Labels = tuple[str, ...]
Numbers = Iterable[tuple[Labels, float]]
"""A row's label values, in the order of its labels, and the number."""
Histograms = Iterable[tuple[Labels, Histogram]]
IDLE = "gpu_idle"
"""The reason by which a GPU without work runs slower (`gpus.REASONS`)."""


def _of_nobody() -> Mapping[str, Any]:
    return {}


JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a scrape finds its numbers. The callables are asked at each scrape and must be quick."""

    tally: Tally
    in_flight: Callable[[], Mapping[str, int]]
    """Requests in flight by backend, all workers together."""
    backend_up: Callable[[], Mapping[str, bool]]
    workers: Callable[[], int]
    """Workers that are alive."""
    worker_restarts: Callable[[], int]
    connections: Callable[[], int]
    """Open connections of clients, all workers together."""
    config_hash: Callable[[], str]
    config_reloads: Callable[[], Mapping[str, int]]
    """Reloads by result."""
    log_lines_dropped: Callable[[], int]
    telemetry_age_s: Callable[[], Mapping[str, float]] = _of_nobody
    """By backend how old what is known of it is; without those of which nothing was ever read."""
    backend_cost_s: Callable[[], Mapping[str, Mapping[str, float]]] = _of_nobody
    """By backend and term what a typical request would cost there now."""
    hardware: Callable[[], Mapping[str, State]] = _of_nobody
    """By backend the state of its GPUs; without those that nobody tells of."""
    idle_joules: Callable[[], Mapping[str, float]] = _of_nobody
    """By backend what its GPUs drew for nobody."""
    carbon_grams_per_kwh: Callable[[], float] = float
    gpus: Callable[[], Mapping[str, Snapshot]] = _of_nobody
    """By backend the last snapshot of its GPUs."""
    budget_remaining: Callable[[], Numbers] = tuple
    """By tenant, unit and period what is left of a budget."""
    reservations: Callable[[], int] = int
    """Requests that hold a reservation in a budget."""
    records_lost: Callable[[], int] = int
    """Requests that could not be put on record."""
    journal_faults: Callable[[], Mapping[str, int]] = _of_nobody
    """Lines of the journal that were none, by what was wrong with them."""
    ledger_lag_s: Callable[[], float] = float
    """How long ago the ledger had last taken in all of the journal."""
    ledger_failures: Callable[[], int] = int
    """Rounds in which it could not."""


def _summed(numbers: Numbers) -> Numbers:
    sums: dict[Labels, float] = {}
    for labels, value in numbers:
        sums[labels] = sums.get(labels, 0) + value
    return sums.items()


def requests(sources: Sources) -> Numbers:
    """Requests by tenant, model, backend and code."""
    cells = sources.tally.cells.items()
    return _summed(
        ((tenant, model, backend, str(code)), cell.requests) for (tenant, _, model, backend, code), cell in cells
    )


def tokens(sources: Sources) -> Numbers:
    """Tokens by tenant, model, backend and kind."""
    return _summed(
        ((tenant, model, backend, kind), count)
        for (tenant, _, model, backend, _), cell in sources.tally.cells.items()
        for kind, count in (
            ("prompt", cell.prompt_tokens),
            ("cached", cell.cached_tokens),
            ("completion", cell.completion_tokens),
        )
        if count
    )


def spent(index: int) -> Callable[[Sources], Numbers]:
    """USD (0) or joules (1) by tenant and backend."""
    return lambda sources: ((key, amounts[index]) for key, amounts in sources.tally.spent.items())


def carbon_grams(sources: Sources) -> Numbers:
    """CO2 of the energy, by tenant and backend."""
    grams_per_joule = sources.carbon_grams_per_kwh() / JOULES_PER_KWH
    return ((key, amounts[1] * grams_per_joule) for key, amounts in sources.tally.spent.items())


def tiers(sources: Sources) -> Numbers:
    """Requests by tier and what decided it; those that were refused before they had one are left out."""
    return (((tier, source), count) for (tier, source), count in sources.tally.tiers.items() if tier != NOBODY)


def usage(sources: Sources) -> Numbers:
    """Answers by where their token counts came from."""
    cells = sources.tally.cells.values()
    yield ("reported",), sum(cell.usage_reported for cell in cells)
    yield ("counted",), sum(cell.usage_counted for cell in cells)
    yield ("estimated",), sum(cell.usage_estimated for cell in cells)


def usage_disputed(sources: Sources) -> Numbers:
    """Answers whose engine reported usage that could not be true, by backend."""
    cells = sources.tally.cells.items()
    return _summed(((backend,), cell.usage_disputed) for (_, _, _, backend, _), cell in cells if cell.usage_disputed)


def backend_costs(sources: Sources) -> Numbers:
    """Seconds by backend and term."""
    return (((name, term), value) for name, terms in sources.backend_cost_s().items() for term, value in terms.items())


def hardware_states(sources: Sources) -> Numbers:
    """By backend and state 1 for the one that holds and 0 for the others."""
    return (
        ((name, state.name.lower()), float(told.hardware is state))
        for name, told in sources.hardware().items()
        for state in Hardware
    )


def speeds(sources: Sources) -> Numbers:
    """The speed fraction by backend."""
    return (((name,), told.speed_fraction) for name, told in sources.hardware().items())


def powers(sources: Sources) -> Numbers:
    """Watts by backend; those whose GPUs do not all tell have no sample."""
    told = ((name, state.power_watts) for name, state in sources.hardware().items())
    return (((name,), watts) for name, watts in told if watts is not None)


def of_gpus(value: Callable[[Gpu], float | None]) -> Callable[[Sources], Numbers]:
    """One sample for each backend's GPU that has the value."""

    def numbers(sources: Sources) -> Numbers:
        for name, gpu in _gpus(sources):
            number = value(gpu)
            if number is not None:
                yield (name, gpu.uuid), number

    return numbers


def throttles(sources: Sources) -> Numbers:
    """1 for each reason that holds a GPU's clock, by backend, GPU and reason. That it idles is none."""
    return (((name, gpu.uuid, reason), 1) for name, gpu in _gpus(sources) for reason in _held_by(gpu))


def _held_by(gpu: Gpu) -> list[str]:
    return [reason for reason in dict.fromkeys(gpu.throttle_reasons) if reason != IDLE]


def _gpus(sources: Sources) -> Iterator[tuple[str, Gpu]]:
    """Each backend's GPUs. One that is told twice comes once: two samples of one name would spoil the whole page."""
    for name, snapshot in sources.gpus().items():
        yield from ((name, gpu) for gpu in {gpu.uuid: gpu for gpu in snapshot.gpus}.values())


def each(numbers: Callable[[Sources], Mapping[str, float]]) -> Callable[[Sources], Numbers]:
    """One sample for each entry of a mapping, whose key is the only label."""
    return lambda sources: (((label,), value) for label, value in numbers(sources).items())


def one(number: Callable[[Sources], float]) -> Callable[[Sources], Numbers]:
    """One sample without labels."""
    return lambda sources: [((), number(sources))]


def merged(*fields: str, by: Callable[[SpreadKey], Labels]) -> Callable[[Sources], Histograms]:
    """The histograms of all spreads that share labels, as one. Of several fields each gets its name as last label."""

    def histograms(sources: Sources) -> Histograms:
        sums: dict[Labels, Histogram] = {}
        for key, spread in sources.tally.spreads.items():
            for field in fields:
                histogram: Histogram = getattr(spread, field)
                labels = by(key) if len(fields) == 1 else (*by(key), _TOKEN_TYPES[field])
                if any(histogram.counts):
                    sums.setdefault(labels, Histogram(BOUNDS[field])).merge(histogram.counts, histogram.sum)
        return sums.items()

    return histograms


_OPERATIONS = {"completions": "text_completion", "responses": "chat", "messages": "chat"}
"""`gen_ai.operation.name` of APIs whose own name is not the conventions' word."""
_TOKEN_TYPES = {"prompt_tokens": "input", "completion_tokens": "output"}
"""`gen_ai.token.type`."""
GENAI_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


def by_model_and_backend(key: SpreadKey) -> Labels:
    """Labels `model` and `backend`."""
    return key[1], key[2]


def by_genai(key: SpreadKey) -> Labels:
    """Labels `GENAI_LABELS`. The provider tells which format is spoken, not whose machine it is (the key's note 2)."""
    return _OPERATIONS.get(key[0], key[0]), "anthropic" if key[0] == "messages" else "openai", key[1]


def by_genai_and_error(key: SpreadKey) -> Labels:
    """The same and `error_type`: the code of a failure, empty for success."""
    return *by_genai(key), str(key[3]) if key[3] >= 400 else ""
