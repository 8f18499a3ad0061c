"""What we tell Prometheus: every metric is one row of `METRICS`, and a scrape walks the table.

Nothing is counted here: `samples` reads a tally, to which outcomes are added, and asks callables for what is a state
now. The GenAI names of OpenTelemetry are further rows over the same numbers.

To add a metric: a row in `METRICS`, if need be a field in `Sources`, and `docs/metrics.md` written anew from `page()`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gpubalancer.telemetry import gpu_page
from gpubalancer.telemetry.samples import (
    GENAI_LABELS,
    Histograms,
    Labels,
    Numbers,
    Sources,
    backend_costs,
    by_genai,
    by_genai_and_error,
    by_model_and_backend,
    carbon_grams,
    each,
    hardware_states,
    merged,
    of_gpus,
    one,
    powers,
    requests,
    speeds,
    spent,
    throttles,
    tiers,
    tokens,
    usage,
    usage_disputed,
)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True, slots=True)
class Counter:
    """A number that only grows. Its name ends in `_total`."""

    name: str
    labels: Labels
    help: str
    samples: Callable[[Sources], Numbers]

    def family(self, sources: Sources) -> Metric:
        """The metric as it stands now."""
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.samples(sources):
            family.add_metric(labels, value)
        return family


@dataclass(frozen=True, slots=True)
class Gauge:
    """A state that goes up and down."""

    name: str
    labels: Labels
    help: str
    samples: Callable[[Sources], Numbers]

    def family(self, sources: Sources) -> Metric:
        """The metric as it stands now."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.samples(sources):
            family.add_metric(labels, value)
        return family


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram: how many values fell into each bucket, and their sum."""

    name: str
    labels: Labels
    help: str
    samples: Callable[[Sources], Histograms]

    def family(self, sources: Sources) -> Metric:
        """The metric as it stands now; buckets are cumulative, as Prometheus wants them."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, histogram in self.samples(sources):
            bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
            below, buckets = 0, []
            for bound, count in zip(bounds, histogram.counts, strict=True):
                below += count
                buckets.append((bound, float(below)))
            family.add_metric(labels, buckets, histogram.sum)
        return family


_OF_GPU = ("backend", "gpu")
_GPUS: tuple[Counter | Gauge, ...] = tuple(
    (Counter if row.kind == "counter" else Gauge)(row.name, _OF_GPU, row.help, of_gpus(row.value))
    for row in gpu_page.METRICS
)
"""What an agent tells of each GPU, under its names. `gpu` is the UUID; GPUs that two backends share are told twice."""

METRICS: tuple[Counter | Gauge | Spread, ...] = (
    Counter(
        "gpubalancer_requests_total",
        ("tenant", "model", "backend", "code"),
        "Requests that have ended. `code`: the status sent, but 499 when the client left and 502 when a stream broke.",
        requests,
    ),
    Spread(
        "gpubalancer_request_seconds",
        ("model", "backend"),
        "From a request's first byte to the end of its answer.",
        merged("request_s", by=by_model_and_backend),
    ),
    Spread(
        "gpubalancer_ttft_seconds",
        ("model", "backend"),
        "Time to first token, streams only.",
        merged("ttft_s", by=by_model_and_backend),
    ),
    Spread(
        "gpubalancer_tpot_seconds",
        ("model", "backend"),
        "Time per output token after the first, streams only.",
        merged("tpot_s", by=by_model_and_backend),
    ),
    Counter(
        "gpubalancer_cost_usd_total",
        ("tenant", "backend"),
        "USD for tokens, and for requests' share of the machines' hours.",
        spent(0),
    ),
    Counter(
        "gpubalancer_energy_joules_total",
        ("tenant", "backend"),
        "Energy for requests: measured, by the machine's time that their tokens took; else at its class's power.",
        spent(1),
    ),
    Counter("gpubalancer_carbon_grams_total", ("tenant", "backend"), "CO2 of that energy.", carbon_grams),
    Counter(
        "gpubalancer_idle_energy_joules_total",
        ("backend",),
        "What its GPUs drew idle.",
        each(lambda s: s.idle_joules()),
    ),
    Counter(
        "gpubalancer_tier_requests_total",
        ("tier", "source"),
        "Requests by tier. `source`: what decided it, `tenant`, `header`, `unread`, `rule:NAME` or `detector:NAME`.",
        tiers,
    ),
    Counter(
        "gpubalancer_tokens_total",
        ("tenant", "model", "backend", "kind"),
        "Tokens. `kind` is `prompt`, `cached` (a part of `prompt`) or `completion`.",
        tokens,
    ),
    Counter(
        "gpubalancer_usage_source_total",
        ("source",),
        "Answers whose tokens the engine `reported`, or that were `estimated` from the stream.",
        usage,
    ),
    Counter(
        "gpubalancer_usage_disputed_total",
        ("backend",),
        "Answers whose engine reported tokens that could not be true.",
        usage_disputed,
    ),
    Counter(
        "gpubalancer_refused_total",
        ("tenant", "reason"),
        "Requests that the balancer refused, by the error's code.",
        lambda sources: sources.tally.refused.items(),
    ),
    Counter(
        "gpubalancer_budget_actions_total",
        ("tenant", "unit", "per", "action"),
        "Requests with which a budget did something, and which: `refused`, `would_refuse` (a shadow budget), `queued`, "
        "`downgraded` or `stopped` (ended the stream).",
        lambda sources: sources.tally.budget_actions.items(),
    ),
    Counter(
        "gpubalancer_upstream_cancelled_total",
        (),
        "Requests given up at their backend because the client had left.",
        one(lambda sources: sources.tally.upstream_cancelled),
    ),
    Counter(
        "gpubalancer_streams_broken_total",
        (),
        "Answers that a backend broke off after their first byte had been sent.",
        one(lambda sources: sources.tally.streams_broken),
    ),
    Spread(
        "gpubalancer_overhead_seconds",
        (),
        "What the balancer added before the first byte to the backend.",
        lambda sources: [((), sources.tally.overhead_s)],
    ),
    Gauge(
        "gpubalancer_in_flight",
        ("backend",),
        "Requests that a backend is serving for us.",
        each(lambda sources: sources.in_flight()),
    ),
    Gauge(
        "gpubalancer_backend_up",
        ("backend",),
        "1 if the backend answers its probes, else 0.",
        each(lambda sources: sources.backend_up()),
    ),
    Gauge(
        "gpubalancer_telemetry_age_seconds",
        ("backend",),
        "Age of what its engine or its GPUs told last, the older of the two; none where nothing was ever read.",
        each(lambda sources: sources.telemetry_age_s()),
    ),
    Gauge(
        "gpubalancer_budget_remaining",
        ("tenant", "unit", "per"),
        "What is left of a budget, in its unit; below 0 where answers took more than there was.",
        lambda sources: sources.budget_remaining(),
    ),
    Gauge(
        "gpubalancer_reservations_outstanding",
        (),
        "Requests that hold a reservation in a budget, as the workers last told; 0 at rest.",
        one(lambda sources: sources.reservations()),
    ),
    Spread(
        "gpubalancer_prediction_error_ratio",
        ("what",),
        "Delivered over predicted; 1 is exact. `what`: `prompt_tokens`, `output_tokens`, `cached_tokens` (one more on"
        " both sides), `ttft`, `tpot`.",
        lambda sources: [((what,), errors) for what, errors in sources.tally.errors.items()],
    ),
    Gauge(
        "gpubalancer_backend_cost_seconds",
        ("backend", "term"),
        "Cost of a typical request there now, without constraints: 1,000 prompt tokens, none cached, and 200 in answer."
        " The sum of its terms is what a decision compares.",
        backend_costs,
    ),
    Gauge(
        "gpubalancer_backend_hardware",
        ("backend", "state"),
        "1 for the state of its GPUs that holds: `unknown`, `well`, `throttled` or `faulty` (no new work), else 0.",
        hardware_states,
    ),
    Gauge(
        "gpubalancer_backend_speed_ratio",
        ("backend",),
        "Clock of its slowest GPU by the expected one while that is throttled, else 1.",
        speeds,
    ),
    Gauge("gpubalancer_backend_power_watts", ("backend",), "Power of all its GPUs together, where all tell.", powers),
    *_GPUS,
    Gauge(
        "gpubalancer_gpu_throttled",
        (*_OF_GPU, "reason"),
        "1 for each reason that holds the clock of a busy GPU now, a normal power cap included.",
        throttles,
    ),
    Gauge("gpubalancer_connections", (), "Open connections of clients.", one(lambda sources: sources.connections())),
    Gauge("gpubalancer_workers", (), "Worker processes that are alive.", one(lambda sources: sources.workers())),
    Counter(
        "gpubalancer_worker_restarts_total",
        (),
        "Workers that died and were replaced.",
        one(lambda sources: sources.worker_restarts()),
    ),
    Gauge(
        "gpubalancer_config_info",
        ("hash",),
        "Always 1; `hash` names the policy in force.",
        lambda sources: [((sources.config_hash(),), 1)],
    ),
    Counter(
        "gpubalancer_config_reloads_total",
        ("result",),
        "Reloads of the policy. `result` is `applied`, `unchanged` or `failed`.",
        each(lambda sources: sources.config_reloads()),
    ),
    Counter(
        "gpubalancer_log_lines_dropped_total",
        (),
        "Lines that the log could not take in time.",
        one(lambda sources: sources.log_lines_dropped()),
    ),
    Counter(
        "gpubalancer_journal_lost_total",
        (),
        "Requests that could not be put on record: the disk was full for long, and `state.journal_full` is `serve`.",
        one(lambda sources: sources.records_lost()),
    ),
    Counter(
        "gpubalancer_journal_faults_total",
        ("what",),
        "Lines of the journal that were `torn` (cut off when their writer was killed) or `damaged`.",
        each(lambda sources: sources.journal_faults()),
    ),
    Gauge(
        "gpubalancer_ledger_lag_seconds",
        (),
        "How long ago the ledger had last taken in all of the journal; about 1 while its database answers.",
        one(lambda sources: sources.ledger_lag_s()),
    ),
    Counter(
        "gpubalancer_ledger_failures_total",
        (),
        "Rounds in which the ledger could not use its database or read the journal; it tries again each second.",
        one(lambda sources: sources.ledger_failures()),
    ),
    Spread(
        "gen_ai_server_request_duration_seconds",
        (*GENAI_LABELS, "error_type"),
        "OpenTelemetry `gen_ai.server.request.duration`.",
        merged("request_s", by=by_genai_and_error),
    ),
    Spread(
        "gen_ai_server_time_to_first_token_seconds",
        GENAI_LABELS,
        "OpenTelemetry `gen_ai.server.time_to_first_token`.",
        merged("ttft_s", by=by_genai),
    ),
    Spread(
        "gen_ai_server_time_per_output_token_seconds",
        GENAI_LABELS,
        "OpenTelemetry `gen_ai.server.time_per_output_token`.",
        merged("tpot_s", by=by_genai),
    ),
    Spread(
        "gen_ai_client_token_usage",
        (*GENAI_LABELS, "gen_ai_token_type"),
        "OpenTelemetry `gen_ai.client.token.usage`.",
        merged("prompt_tokens", "completion_tokens", by=by_genai),
    ),
)


class Exposition(Collector):
    """Renders `METRICS` and the process metrics of this process. Each has a registry of its own."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        """All families, in the table's order."""
        for row in METRICS:
            yield row.family(self._sources)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not scrape to learn our names."""
        return ()

    def render(self) -> bytes:
        """The page that Prometheus reads; its content type is `CONTENT_TYPE`."""
        return generate_latest(self._registry)


def page() -> str:
    """`docs/metrics.md`: the table as people read it."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` on the admin port, in Prometheus' text format. Written by",
        "`python -c 'from gpubalancer.telemetry.metrics import page; print(page(), end=\"\")'`; a test compares.",
        "",
        "`-` as a tenant, model or backend means that it was not known when the request ended; `other` collects what",
        "came after 10,000 combinations of labels. Histograms have the bucket boundaries that OpenTelemetry's GenAI",
        "conventions recommend. Counters outlive workers and start at zero with the supervisor. The usual `process_*`",
        "metrics are those of the supervisor's process.",
        "",
        "`gpubalancer_gpu_*` are what agents, exporters and this machine's own driver told last; a GPU that nobody",
        "told of for a minute has no samples. `gpu` is its UUID. A GPU that backends share stands under each of them.",
        "",
        "| metric | type | labels | means |",
        "|---|---|---|---|",
    ]
    for row in METRICS:
        kind = {Counter: "counter", Gauge: "gauge", Spread: "histogram"}[type(row)]
        labels = ", ".join(f"`{label}`" for label in row.labels) or "-"
        lines.append(f"| `{row.name}` | {kind} | {labels} | {row.help} |")
    return "\n".join(lines) + "\n"
