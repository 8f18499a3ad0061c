"""Engines' words, on lines of real pages and on lines as their documentation has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.board.layout import Loaded
from gpubalancer.sim.calls import Settings
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.sim.metrics import EngineMetrics
from gpubalancer.telemetry.dialects import (
    DIALECTS,
    Fold,
    Series,
    engine_of,
    is_loading,
    read_ollama,
)
from gpubalancer.telemetry.engines import RANGES, TOLD, EngineReading

from .fixtures import engine_page

OLD_VLLM = b"""
vllm:num_requests_running{model_name="m"} 3.0
vllm:num_requests_waiting{model_name="m"} 1.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.25
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1.0
"""
RANKED_VLLM = b"""
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 5.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.4
vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="1000"} 1.0
vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="1000"} 1.0
"""
SGLANG = b"""
sglang:num_running_reqs{model_name="m",tp_rank="0",pp_rank="0"} 7
sglang:num_running_reqs{model_name="m",tp_rank="1",pp_rank="0"} 7
sglang:num_running_reqs{model_name="m",tp_rank="0",pp_rank="0",dp_rank="1"} 2
sglang:num_queue_reqs{model_name="m",tp_rank="0"} 4
sglang:token_usage{model_name="m",tp_rank="0"} 0.28
sglang:max_total_num_tokens{model_name="m"} 471258
sglang:cached_tokens_total{model_name="m"} 10
sglang:prompt_tokens_total{model_name="m"} 40
"""
TGI = b"tgi_batch_current_size 9\ntgi_queue_size 3\ntgi_request_count 150\n"
TRITON = b"""
nv_inference_pending_request_count{model="m",version="1"} 99
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 5
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm",version="1"} 1560
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 6240
"""
TRITON_ALONE = b'nv_inference_pending_request_count{model="a"} 1\nnv_inference_pending_request_count{model="b"} 2\n'
TRTLLM = b"""
trtllm_num_requests_running{model_name="m"} 6
trtllm_num_requests_waiting{model_name="m"} 1
trtllm_kv_cache_utilization{model_name="m"} 0.62
trtllm_kv_cache_tokens_per_block{model_name="m"} 32
trtllm_kv_cache_max_blocks{model_name="m"} 100
"""
OLD_LLAMACPP = b"llamacpp:requests_processing 1\nllamacpp:kv_cache_usage_ratio 0.5\n"


@pytest.mark.parametrize(
    ("engine", "page", "reading"),
    [
        (
            "vllm",
            engine_page("vllm-0.32.0"),
            EngineReading(
                5.0,
                running=8,
                waiting=8,
                kv_used_fraction=0.00219780219780219,
                kv_capacity_tokens=524288,
                cached_tokens=1920,
                looked_up_tokens=2246,
            ),
        ),
        ("vllm", OLD_VLLM, EngineReading(5.0, running=3, waiting=1, kv_used_fraction=0.25, kv_capacity_tokens=16000)),
        (
            "vllm",
            RANKED_VLLM,
            EngineReading(5.0, running=8, kv_used_fraction=0.30000000000000004, kv_capacity_tokens=32000),
        ),
        (
            "sglang",
            SGLANG,
            EngineReading(
                5.0,
                running=9,
                waiting=4,
                kv_used_fraction=0.28,
                kv_capacity_tokens=471258,
                cached_tokens=10,
                looked_up_tokens=40,
            ),
        ),
        ("tgi", TGI, EngineReading(5.0, running=9, waiting=3)),
        ("triton", TRITON, EngineReading(5.0, running=5, waiting=2, kv_used_fraction=0.25, kv_capacity_tokens=399360)),
        ("triton", TRITON_ALONE, EngineReading(5.0, waiting=3)),
        ("trtllm", TRTLLM, EngineReading(5.0, running=6, waiting=1, kv_used_fraction=0.62, kv_capacity_tokens=3200)),
        ("llamacpp", engine_page("llamacpp-b11549"), EngineReading(5.0, running=4, waiting=4, cached_tokens=483)),
        ("llamacpp", OLD_LLAMACPP, EngineReading(5.0, running=1, kv_used_fraction=0.5)),
        (
            "dynamo",
            engine_page("dynamo-vllm-1.6.1"),
            EngineReading(5.0, running=8, waiting=16, kv_used_fraction=0.1875),
        ),
        ("dynamo", engine_page("dynamo-sglang-1.6.1"), EngineReading(5.0, running=0, waiting=0)),
        ("dynamo", engine_page("dynamo-trtllm-1.6.1"), EngineReading(5.0, running=0, waiting=0, kv_used_fraction=0)),
        (
            "dynamo",
            engine_page("dynamo-frontend-1.6.1"),
            EngineReading(5.0, running=0, kv_capacity_tokens=8192, cached_tokens=2944, looked_up_tokens=3347),
        ),
    ],
)
def test_each_engine_is_understood(engine: str, page: bytes, reading: EngineReading) -> None:
    """Of each engine's page, old and new, the numbers come out, and the page gives the engine away."""
    assert DIALECTS[engine].read(page, 5.0) == reading
    assert engine_of(page) == engine


def test_the_simulated_engine_speaks_vllm() -> None:
    """Batch, queue, cache and its size are told by our own engine as by vLLM."""
    settings = Settings(models=("m",), hardware=HARDWARE["h100"], name="h100", kv_blocks=100)
    engine = settings.engine()
    page = EngineMetrics(engine, "m", 1000, 1.0)
    reading = DIALECTS["vllm"].read(page.page(), 5.0)
    assert reading == EngineReading(5.0, 0.0, 0.0, 0.0, 1600.0, cached_tokens=0.0, looked_up_tokens=0.0)


def test_a_sleeping_vllm_is_seen() -> None:
    """An engine whose state `awake` is 0 sleeps."""
    page = engine_page("vllm-0.32.0").replace(b'sleep_state="awake"} 1.0', b'sleep_state="awake"} 0.0')
    assert DIALECTS["vllm"].read(page, 1.0).loaded is Loaded.SLEEPING


def test_a_lie_is_passed_over_for_the_next_name() -> None:
    """A newer name whose number can't be true gives way to the older one."""
    page = b"vllm:kv_cache_usage_perc 55\nvllm:gpu_cache_usage_perc 0.5\nvllm:num_requests_running NaN\n"
    reading = DIALECTS["vllm"].read(page, 1.0)
    assert (reading.kv_used_fraction, reading.running) == (0.5, None)


def test_a_geometry_that_is_not_known_yet_is_none() -> None:
    """The word None, which stands in vLLM's description before it has measured its cache, is no number."""
    page = b'vllm:cache_config_info{block_size="16",num_gpu_blocks="None",kv_cache_size_tokens="None"} 1.0\n'
    assert DIALECTS["vllm"].read(page, 1.0).kv_capacity_tokens is None


def test_series_mapped_by_hand_go_first() -> None:
    """What the operator maps is read before the engine's own name, in his order, with labels and factor."""
    dialect = DIALECTS["vllm"].extended(
        [
            ("running", Series("mine", (("pool", "gone"),))),
            ("running", Series("mine", (("pool", "a"),))),
            ("kv_used_fraction", Series("percent", scale=0.01)),
            ("power_watts", Series("watts", fold=Fold.SUM)),
        ]
    )
    page = b'mine{pool="a"} 3\nmine{pool="b"} 5\nvllm:num_requests_running 9\nvllm:num_requests_waiting 1\n'
    reading = dialect.read(page + b'percent 50\nwatts{gpu="0"} 300\nwatts{gpu="1"} 400\n', 1.0)
    assert (reading.running, reading.waiting) == (3, 1)
    assert (reading.kv_used_fraction, reading.power_watts) == (0.5, 700)


@pytest.mark.parametrize("page", [b"", b"python_info 1\n", b"# vllm:x\n", b" vllm:x 1\n", b"<html>"])
def test_other_pages_are_no_engines(page: bytes) -> None:
    """A page without any engine's lines is nobody's."""
    assert engine_of(page) is None


def test_every_field_of_the_table_has_a_range() -> None:
    """A dialect has only fields that are checked, and names no series twice for one."""
    for dialect in DIALECTS.values():
        assert dialect.fields.keys() <= RANGES.keys()
        for alternatives in dialect.fields.values():
            assert len(set(alternatives)) == len(alternatives)


def test_ollama_tells_its_models() -> None:
    """The models in memory, and nothing else."""
    page = b'{"models": [{"name": "phi:3", "size_vram": 5}, {"name": "llama:8b"}, {"name": 5}, 7]}'
    assert read_ollama(page, 2.0) == EngineReading(2.0, models=("phi:3", "llama:8b"))
    assert read_ollama(b'{"models": []}', 2.0).models == ()


@pytest.mark.parametrize("page", [b"", b"{", b"[]", b"{}", b'{"models": 5}', b'{"models": null}'])
def test_what_is_no_list_of_models_is_an_error(page: bytes) -> None:
    """Another shape is the page's fault, not an empty memory."""
    with pytest.raises(ValueError, match=r"."):
        read_ollama(page, 2.0)


@pytest.mark.parametrize(
    ("page", "loading"),
    [
        (b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}', True),
        (b'{"error":{"message":"overloaded"}}', False),
        (b'{"error":"Loading model"}', False),
        (b"Loading model", False),
        (b"[]", False),
    ],
)
def test_llamacpp_says_that_it_is_loading(page: bytes, loading: bool) -> None:
    """Its 503 with these words means a model that is being read, and no other does."""
    assert is_loading(page) == loading


@given(st.sampled_from(sorted(DIALECTS)), st.data())
def test_any_numbers_give_readings_in_range(engine: str, data: st.DataObject) -> None:
    """Whatever numbers stand behind the names, what comes out is within its range."""
    names = sorted({series.name for rows in DIALECTS[engine].fields.values() for series in rows})
    lines = data.draw(st.lists(st.tuples(st.sampled_from(names), st.floats()), max_size=12))
    page = "".join(f"{name} {number!r}\n" for name, number in lines).encode()
    reading = DIALECTS[engine].read(page, 1.0)
    for name in TOLD:
        number, (low, high) = getattr(reading, name), RANGES[name]
        assert number is None or low <= number <= high
