"""The engine's `/metrics` page, in vLLM 0.32's names, types, labels and buckets.

The tables below are the page. Gauges are read from the engine when the page is asked for; counters and histograms are
fed with each finished step. Times are wall-clock seconds: a server that runs X times faster reports X times shorter
ones, as a faster machine would.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gpubalancer.sim.blocks import BLOCK_TOKENS
from gpubalancer.sim.engine import Engine, Reason, Request, Step

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

GAUGES: Mapping[str, tuple[str, Callable[[Engine], float]]] = MappingProxyType(
    {
        "num_requests_running": ("Requests in the running batch.", lambda engine: len(engine.running)),
        "num_requests_waiting": ("Requests in the queue.", lambda engine: len(engine.waiting)),
        "kv_cache_usage_perc": (
            "Share of key-value blocks in use, 1 is all.",
            lambda engine: engine.pool.usage_fraction,
        ),
    }
)

COUNTERS: Mapping[str, tuple[str, str | None, tuple[str, ...]]] = MappingProxyType(
    {  # name: (help, the label beside engine and model_name, that label's values)
        "prefix_cache_queries": ("Prompt tokens looked up in the prefix cache.", None, ()),
        "prefix_cache_hits": ("Prompt tokens found in the prefix cache.", None, ()),
        "num_preemptions": ("Requests put back into the queue for want of blocks.", None, ()),
        "prompt_tokens": ("Prompt tokens processed.", None, ()),
        "prompt_tokens_by_source": (
            "Prompt tokens by where their keys and values came from.",
            "source",
            ("local_compute", "local_cache_hit", "external_kv_transfer"),
        ),
        "prompt_tokens_cached": ("Prompt tokens that came out of a cache.", None, ()),
        "generation_tokens": ("Output tokens produced.", None, ()),
        "request_success": (
            "Requests ended, by reason.",
            "finished_reason",
            ("stop", "length", "abort", "error", "repetition"),
        ),
    }
)

_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_FIRST_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    *(160.0, 640.0, 2560.0),
)
_BETWEEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_WHOLE_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0),
    *(1920.0, 7680.0),
)

HISTOGRAMS: Mapping[str, tuple[str, tuple[float, ...]]] = MappingProxyType(
    {
        "request_prompt_tokens": ("Prompt tokens of a request.", _TOKENS),
        "request_generation_tokens": ("Output tokens of a request.", _TOKENS),
        "request_max_num_generation_tokens": ("Most output tokens that a request could have had.", _TOKENS),
        "request_params_max_tokens": ("The limit that a request came with.", _TOKENS),
        "request_params_n": ("Answers asked for by a request.", (1, 2, 5, 10, 20)),
        "request_num_preemptions": ("How often a request was preempted.", (1, 2, 3, 4, 5, 10, 20)),
        "request_prefill_kv_computed_tokens": ("Prompt tokens computed, cached ones left out.", _TOKENS),
        "iteration_tokens_total": ("Tokens of a step.", _STEP_TOKENS),
        "time_to_first_token_seconds": ("From arrival to the first token.", _FIRST_S),
        "inter_token_latency_seconds": ("From one token to the next.", _BETWEEN_S),
        "request_time_per_output_token_seconds": ("Mean time between the tokens of a request.", _BETWEEN_S),
        "e2e_request_latency_seconds": ("From arrival to the last token.", _WHOLE_S),
        "request_queue_time_seconds": ("From arrival to the start.", _WHOLE_S),
        "request_inference_time_seconds": ("From the start to the last token.", _WHOLE_S),
        "request_prefill_time_seconds": ("From the start to the first token.", _WHOLE_S),
        "request_decode_time_seconds": ("From the first token to the last.", _WHOLE_S),
    }
)

REJECTIONS = "max_num_queued_reqs"
"""The reason under which a full queue is counted."""


class EngineMetrics:
    """One page.

    Arguments:
        engine: whose gauges are read.
        model: the `model_name` label.
        context_tokens: for the cache's description.
        wall_s: wall-clock seconds per engine second.
    """

    def __init__(self, engine: Engine, model: str, context_tokens: int, wall_s: float) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"engine": "0", "model_name": model}
        self._wall_s = wall_s
        self._last_token_s: dict[Request, float] = {}
        for name, (text, read) in GAUGES.items():
            gauge = Gauge(f"vllm:{name}", text, list(self._labels), registry=self._registry)
            gauge.labels(**self._labels).set_function(partial(read, engine))
        self._counters = {name: self._counter(name, *row) for name, row in COUNTERS.items()}
        self._histograms = {name: self._histogram(name, *row) for name, row in HISTOGRAMS.items()}
        rejections = Counter(
            "vllm:admission_rejections",
            "Calls refused for a full queue.",
            ["model_name", "reason"],
            registry=self._registry,
        )
        self._rejections = rejections.labels(model_name=model, reason=REJECTIONS)
        self._describe_cache(engine, context_tokens)

    def _counter(self, name: str, text: str, label: str | None, values: tuple[str, ...]) -> dict[str, Counter]:
        names = [*self._labels, label] if label else list(self._labels)
        family = Counter(f"vllm:{name}", text, names, registry=self._registry)
        if label is None:
            return {"": family.labels(**self._labels)}
        return {value: family.labels(**self._labels, **{label: value}) for value in values}

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        family = Histogram(f"vllm:{name}", text, list(self._labels), registry=self._registry, buckets=buckets)
        return family.labels(**self._labels)

    def _describe_cache(self, engine: Engine, context_tokens: int) -> None:
        tokens = engine.pool.count * BLOCK_TOKENS
        labels = {
            "engine": "0",
            "block_size": str(BLOCK_TOKENS),
            "num_gpu_blocks": str(engine.pool.count),
            "kv_cache_size_tokens": str(tokens),
            "kv_cache_max_concurrency": str(tokens / context_tokens),
            "enable_prefix_caching": "True",
            "gpu_memory_utilization": "0.9",
            "cache_dtype": "auto",
        }
        info = Gauge("vllm:cache_config_info", "How the blocks are laid out.", list(labels), registry=self._registry)
        info.labels(**labels).set(1)

    def _count(self, name: str, amount: float, value: str = "") -> None:
        self._counters[name][value].inc(amount)

    def _observe_s(self, name: str, engine_s: float) -> None:
        self._histograms[name].observe(engine_s * self._wall_s)

    def stepped(self, step: Step) -> None:
        """Account for a step that has ended."""
        for request in step.started:
            self._count("prefix_cache_queries", len(request.prompt))
            self._count("prefix_cache_hits", request.cached_tokens)
        self._count("num_preemptions", len(step.preempted))
        self._count("generation_tokens", len(step.tokens))
        self._histograms["iteration_tokens_total"].observe(sum(count for _, count in step.chunks))
        for request, _ in step.tokens:
            before_s = self._last_token_s.get(request)
            if before_s is None:
                self._prompt_read(request, step.ends_s)
            else:
                self._observe_s("inter_token_latency_seconds", step.ends_s - before_s)
            self._last_token_s[request] = step.ends_s
        for request, reason in step.finished:
            if request.first_token_s is None:
                self._count_prompt(request)
            self._ended(request, reason, step.ends_s)

    def _prompt_read(self, request: Request, now_s: float) -> None:
        self._observe_s("time_to_first_token_seconds", now_s - request.arrived_s)
        self._count_prompt(request)

    def _count_prompt(self, request: Request) -> None:
        tokens, cached = len(request.prompt), request.cached_tokens
        self._count("prompt_tokens", tokens)
        self._count("prompt_tokens_cached", cached)
        self._count("prompt_tokens_by_source", tokens - cached, "local_compute")
        self._count("prompt_tokens_by_source", cached, "local_cache_hit")

    def asked(self, n: int, limit_tokens: int | None) -> None:
        """Account for what a call asked for."""
        self._histograms["request_params_n"].observe(n)
        if limit_tokens is not None:
            self._histograms["request_params_max_tokens"].observe(limit_tokens)

    def rejected(self) -> None:
        """Count a call refused for a full queue."""
        self._rejections.inc()

    def aborted(self, request: Request, now_s: float) -> None:
        """Account for a request that was cancelled."""
        self._ended(request, Reason.ABORT, now_s)

    def _ended(self, request: Request, reason: Reason, now_s: float) -> None:
        self._last_token_s.pop(request, None)
        self._count("request_success", 1, reason)
        for name, tokens in (
            ("request_prompt_tokens", len(request.prompt)),
            ("request_generation_tokens", request.produced),
            ("request_max_num_generation_tokens", request.output_tokens),
            ("request_num_preemptions", request.preemptions),
            ("request_prefill_kv_computed_tokens", len(request.prompt) - request.cached_tokens),
        ):
            self._histograms[name].observe(tokens)
        self._observe_s("e2e_request_latency_seconds", now_s - request.arrived_s)
        started_s = now_s if request.started_s is None else request.started_s
        first_s = now_s if request.first_token_s is None else request.first_token_s
        self._observe_s("request_queue_time_seconds", started_s - request.arrived_s)
        self._observe_s("request_inference_time_seconds", now_s - started_s)
        self._observe_s("request_prefill_time_seconds", first_s - started_s)
        self._observe_s("request_decode_time_seconds", now_s - first_s)
        if request.produced > 1 and request.last_token_s is not None:
            between_s = (request.last_token_s - first_s) / (request.produced - 1)
            self._observe_s("request_time_per_output_token_seconds", between_s)

    def page(self) -> bytes:
        """The page as Prometheus text."""
        return generate_latest(self._registry)
