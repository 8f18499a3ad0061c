"""What each engine calls its numbers: one table, from the engine to the series behind each field of a reading.

A field has alternatives, newest name first; the first that the page has, with a number that can be true, counts. A
series that comes several times is of several models or ranks: copies of the same number (a rank of tensor
parallelism repeats it) count once, the rest is folded as the row says.

Ollama has no such page; its list of loaded models is JSON. An engine that is not in `DIALECTS` (a cloud, a plain
OpenAI server) is *silent*: nothing is asked, and all that is known of it is what we measure ourselves.

Names: vLLM 0.32, llama.cpp b11549 and Dynamo 1.6.1 as captured from servers; older and other ones from the engines'
documentation (docs/telemetry.md).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Any

import orjson

from gpubalancer.board.layout import Loaded
from gpubalancer.telemetry import pages
from gpubalancer.telemetry.engines import TOLD, EngineReading, within


class Fold(StrEnum):
    """How the series of several models or ranks become one number."""

    SUM = "sum"
    MEAN = "mean"
    MAX = "max"


_FOLDS: Mapping[Fold, Callable[[list[float]], float]] = {Fold.SUM: sum, Fold.MEAN: fmean, Fold.MAX: max}


@dataclass(frozen=True, slots=True)
class Series:
    """Where a number stands.

    Attributes:
        name: before the labels, a counter's `_total` included.
        labels: those that it must have, with these values.
        scale: what to multiply with, to come to our unit.
        in_label: the number is this label's value, and the sample's own means nothing.
    """

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    scale: float = 1.0
    fold: Fold = Fold.SUM
    in_label: str = ""

    def matches(self, labels: pages.Labels) -> bool:
        """Whether a sample with these labels is meant."""
        return all(labels.get(key) == wanted for key, wanted in self.labels)

    def folded(self, values: list[float]) -> float:
        """One number out of those of several models, ranks or parts, in our unit."""
        return _FOLDS[self.fold](values) * self.scale

    def number(self, page: pages.Page, copies: frozenset[str] = frozenset()) -> float | None:
        """The number on a page, or None."""
        distinct: dict[frozenset[tuple[str, str]], float] = {}
        for labels, value in page.samples(self.name):
            if self.matches(labels):
                told = _float(labels.get(self.in_label, "")) if self.in_label else value
                key = frozenset((key, text) for key, text in labels.items() if key not in copies)
                distinct[key] = max(told, distinct.get(key, told))
        return self.folded(list(distinct.values())) if distinct else None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One engine's words. `copies`: labels whose values tell copies of the same number apart."""

    fields: Mapping[str, tuple[Series, ...]]
    copies: frozenset[str] = frozenset()

    def extended(self, by_hand: Iterable[tuple[str, Series]]) -> "Dialect":
        """The same, with what the operator maps going first."""
        mapped: dict[str, tuple[Series, ...]] = {}
        for field, series in by_hand:
            mapped[field] = (*mapped.get(field, ()), series)
        merged = {field: mapped.get(field, ()) + self.fields.get(field, ()) for field in {**self.fields, **mapped}}
        return Dialect(merged, self.copies)

    def read(self, text: bytes, at_s: float) -> EngineReading:
        """What a page tells."""
        page = pages.Page(text)
        numbers = {field: self._number(field, page) for field in TOLD if field in self.fields}
        if numbers.get("kv_capacity_tokens") is None:
            numbers["kv_capacity_tokens"] = self._capacity(page)
        if numbers.get("kv_used_fraction") is None:
            numbers["kv_used_fraction"] = self._used(page)
        asleep = self._number("awake", page) == 0
        return EngineReading(at_s, loaded=Loaded.SLEEPING if asleep else Loaded.READY, **numbers)  # type: ignore[arg-type] # all are numbers

    def _number(self, field: str, page: pages.Page) -> float | None:
        for series in self.fields.get(field, ()):
            number = within(field, series.number(page, self.copies))
            if number is not None:
                return number
        return None

    def _capacity(self, page: pages.Page) -> float | None:
        blocks, block_tokens = self._number("kv_blocks", page), self._number("kv_block_tokens", page)
        return None if blocks is None or block_tokens is None else within("kv_capacity_tokens", blocks * block_tokens)

    def _used(self, page: pages.Page) -> float | None:
        used, blocks = self._number("kv_used_blocks", page), self._number("kv_blocks", page)
        return None if used is None or not blocks else within("kv_used_fraction", used / blocks)


def one(*names: str, fold: Fold = Fold.SUM) -> tuple[Series, ...]:
    """Alternatives without labels."""
    return tuple(Series(name, fold=fold) for name in names)


def _by(name: str, label: str, value: str, fold: Fold = Fold.SUM) -> tuple[Series, ...]:
    return (Series(name, ((label, value),), fold=fold),)


def _told(name: str, label: str, fold: Fold = Fold.SUM) -> tuple[Series, ...]:
    return (Series(name, fold=fold, in_label=label),)


_VLLM: Mapping[str, tuple[Series, ...]] = {
    "running": one("vllm:num_requests_running"),
    "waiting": one("vllm:num_requests_waiting"),
    # Each rank of data parallelism has a cache of its own, all of one size.
    "kv_used_fraction": one("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", fold=Fold.MEAN),
    "kv_capacity_tokens": _told("vllm:cache_config_info", "kv_cache_size_tokens"),
    "kv_blocks": _told("vllm:cache_config_info", "num_gpu_blocks"),
    "kv_block_tokens": _told("vllm:cache_config_info", "block_size", Fold.MAX),
    "cached_tokens": one("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    "looked_up_tokens": one("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    "awake": _by("vllm:engine_sleep_state", "sleep_state", "awake", Fold.MAX),
}
_SGLANG: Mapping[str, tuple[Series, ...]] = {
    "running": one("sglang:num_running_reqs"),
    "waiting": one("sglang:num_queue_reqs"),
    "kv_used_fraction": one("sglang:token_usage", fold=Fold.MEAN),
    "kv_capacity_tokens": one("sglang:max_total_num_tokens"),
    "kv_blocks": _told("sglang:cache_config_info", "num_pages"),
    "kv_block_tokens": _told("sglang:cache_config_info", "page_size", Fold.MAX),
    "cached_tokens": one("sglang:cached_tokens_total"),
    "looked_up_tokens": one("sglang:prompt_tokens_total"),
}
_TRTLLM: Mapping[str, tuple[Series, ...]] = {
    "running": one("trtllm_num_requests_running", "trtllm:num_requests_running"),
    "waiting": one("trtllm_num_requests_waiting", "trtllm:num_requests_waiting"),
    "kv_used_fraction": one(
        "trtllm_kv_cache_utilization",
        "trtllm:kv_cache_usage_perc",
        "trtllm:gpu_cache_usage_perc",
        fold=Fold.MEAN,
    ),
    "kv_blocks": one("trtllm_kv_cache_max_blocks"),
    "kv_block_tokens": one("trtllm_kv_cache_tokens_per_block", fold=Fold.MAX),
}
_KV_BLOCKS, _KV_TYPE = "nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type"
_REQUESTS = "nv_trt_llm_request_metrics"
_RANKS = frozenset(("tp_rank", "pp_rank", "moe_ep_rank", "pid"))

DIALECTS: Mapping[str, Dialect] = {
    "vllm": Dialect(_VLLM),
    "sglang": Dialect(_SGLANG, _RANKS),
    "trtllm": Dialect(_TRTLLM),
    "tgi": Dialect({"running": one("tgi_batch_current_size"), "waiting": one("tgi_queue_size")}),
    "triton": Dialect(
        {
            "running": _by(_REQUESTS, "request_type", "scheduled") + _by(_REQUESTS, "request_type", "active"),
            "waiting": _by(_REQUESTS, "request_type", "waiting") + one("nv_inference_pending_request_count"),
            "kv_used_fraction": _by(_KV_BLOCKS, _KV_TYPE, "fraction", Fold.MEAN),
            "kv_used_blocks": _by(_KV_BLOCKS, _KV_TYPE, "used"),
            "kv_blocks": _by(_KV_BLOCKS, _KV_TYPE, "max"),
            "kv_block_tokens": _by(_KV_BLOCKS, _KV_TYPE, "tokens_per", Fold.MAX),
        }
    ),
    "llamacpp": Dialect(
        {
            "running": one("llamacpp:requests_processing"),
            "waiting": one("llamacpp:requests_deferred"),
            "kv_used_fraction": one("llamacpp:kv_cache_usage_ratio", fold=Fold.MEAN),
            "cached_tokens": one("llamacpp:prompt_tokens_cached_total"),
        }
    ),
    # A worker's page carries its engine's own names. A frontend's number of requests has those in it that wait.
    "dynamo": Dialect(
        {
            field: own + _VLLM.get(field, ()) + _SGLANG.get(field, ()) + _TRTLLM.get(field, ())
            for field, own in {
                "running": one("dynamo_frontend_inflight_requests"),
                "waiting": (),
                "kv_used_fraction": (),
                "kv_capacity_tokens": (),
                "kv_blocks": one("dynamo_frontend_model_total_kv_blocks"),
                "kv_block_tokens": one("dynamo_frontend_model_kv_cache_block_size", fold=Fold.MAX),
                "cached_tokens": one("dynamo_frontend_cached_tokens_sum"),
                "looked_up_tokens": one("dynamo_frontend_input_sequence_tokens_sum"),
                "awake": (),
            }.items()
        },
        _RANKS,
    ),
}

METRICS_PATHS: Mapping[str, str] = {"ollama": "/api/ps", "trtllm": "/prometheus/metrics"}
"""Where an engine's page is, if not at `/metrics`."""
METRICS_PORTS: Mapping[str, int] = {"triton": 8002}
"""And if not on its own port (Triton's `--metrics-port`)."""

_SIGNS: Mapping[str, tuple[bytes, ...]] = {
    "dynamo": (b"dynamo_frontend_", b"dynamo_component_"),
    "vllm": (b"vllm:",),
    "sglang": (b"sglang:",),
    "trtllm": (b"trtllm_", b"trtllm:"),
    "tgi": (b"tgi_",),
    "triton": (b"nv_inference_", b"nv_trt_llm_"),
    "llamacpp": (b"llamacpp:",),
}
"""Beginnings of lines that only one engine's page has; Dynamo's goes first, because it carries others' names too."""


def engine_of(text: bytes) -> str | None:
    """The engine whose page this is."""
    page = pages.Page(text)
    return next((engine for engine, signs in _SIGNS.items() if any(map(page.has, signs))), None)


def read_ollama(page: bytes, at_s: float) -> EngineReading:
    """What Ollama's `/api/ps` tells: the models in memory. Raises ValueError if it is no such list."""
    said = orjson.loads(page)
    entries = said.get("models") if isinstance(said, dict) else None
    if not isinstance(entries, list):
        raise ValueError("a page without a list of models")  # noqa: TRY004 (a page's fault, like bad JSON)
    names = (entry.get("name") for entry in entries if isinstance(entry, dict))
    return EngineReading(at_s, models=tuple(name for name in names if isinstance(name, str))[: pages.SERIES_LIMIT])


def is_loading(page: bytes) -> bool:
    """True for what llama.cpp answers, with status 503, while it reads its model."""
    try:
        said: Any = orjson.loads(page)
    except ValueError:
        return False
    error = said.get("error") if isinstance(said, dict) else None
    return isinstance(error, dict) and "loading" in str(error.get("message")).lower()


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
