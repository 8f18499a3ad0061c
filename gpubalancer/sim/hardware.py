"""How long a step takes on each class of machine, and how much fits into its memory.

Two curves describe a class, the same two that the balancer learns for each real backend:

    prefill(x) = a0 + a1 x + a2 x^2      seconds to read x prompt tokens that no cache holds
    step(B, C) = d0 + d1 B + d2 C        seconds for one token each to B requests whose contexts add up to C tokens

A step that does both pays the larger of a0 and d0 once, because the weights are read once, and everything else as a
sum.

All figures are for an 8-billion-parameter model in 16 bits on one device. Sources:

* a0, a1 and d0: the table for 7-8B models in llm-d-inference-sim, docs/latency-profiles.md (overhead 25-40 ms; per
  prompt token H100 0.15-0.30, A100 0.30-0.55, L40S 0.65-1.00 ms; between tokens 10-15, 15-25, 25-35 ms). We take the
  fast end.
* d1: Koyeb's GPU benchmarks of Llama 3.1 8B, tokens per second at batch 1 and 32: H100 93 and 2462, A100 SXM 79 and
  1933, L40S 44 and 1124. The difference of the step times over 31 more requests is d1.
* d2: bytes of keys and values per token (Llama 3.1 8B: 32 layers x 8 heads x 128 x 2 x 2 bytes = 128 KiB) over the
  memory's bandwidth (3.35, 2.0 and 0.864 TB/s by the data sheets).
* a2: attention's share of the arithmetic. A token costs 16 GFLOP in the weights and 262,144 FLOP for each earlier token
  (4 x 32 layers x 4096 / 2), hence a2 = a1 x 1.64e-5.
* Blocks: what 90 % of the memory leaves beside 16 GB of weights and 3 GB of working space, at 2 MiB for 16 tokens.
* cpu: llama.cpp b11549 on one thread of a 2-core server, a 270M model in 4 bits, measured: 3.8-4.2 ms per prompt token;
  per output token 18-23 ms alone (37 ms in a busier run, which we take) and 69 ms with four requests at once, hence
  17 ms for each further one; 5.6 us more per token of context.
* cloud: chosen, not measured: a hosted service with a wide network path, more capacity than one client fills, no
  metrics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Hardware:
    """One class of machine.

    `a0_s a1_s a2_s d0_s d1_s d2_s` are the coefficients above in seconds, `kv_blocks` how many blocks of 16 tokens the
    memory holds, `slots` how many requests run at once unless told otherwise, `batch_tokens` how many tokens one step
    takes (longer prompts are read in chunks), `network_s` the delay before a request arrives, and `visible` whether the
    machine shows a metrics page.
    """

    name: str
    a0_s: float
    a1_s: float
    a2_s: float
    d0_s: float
    d1_s: float
    d2_s: float
    kv_blocks: int
    slots: int
    batch_tokens: int
    network_s: float = 0.0
    visible: bool = True

    def prefill_s(self, tokens: int) -> float:
        """Seconds to read a prompt of `tokens` alone, none of it cached."""
        return self.a0_s + self.chunk_s(0, tokens)

    def chunk_s(self, before_tokens: int, tokens: int) -> float:
        """Seconds for `tokens` more of a prompt that follow `before_tokens`, without the fixed part a0."""
        after_tokens = before_tokens + tokens
        return self.a1_s * tokens + self.a2_s * (after_tokens * after_tokens - before_tokens * before_tokens)

    def step_s(self, batch: int, context_tokens: int) -> float:
        """Seconds for one more token to each of `batch` requests that hold `context_tokens` together."""
        return self.d0_s + self.d1_s * batch + self.d2_s * context_tokens


HARDWARE: Mapping[str, Hardware] = MappingProxyType(
    {
        hardware.name: hardware
        for hardware in (
            Hardware("h100", 25e-3, 0.15e-3, 2.5e-9, 10.5e-3, 0.073e-3, 3.9e-8, 25_000, 256, 8192),
            Hardware("a100", 25e-3, 0.30e-3, 4.9e-9, 15.0e-3, 0.126e-3, 6.6e-8, 25_000, 256, 8192),
            Hardware("l40s", 25e-3, 0.65e-3, 10.7e-9, 25.0e-3, 0.187e-3, 15.2e-8, 11_500, 128, 2048),
            Hardware("cpu", 20e-3, 4.00e-3, 66e-9, 20.0e-3, 17.0e-3, 5.6e-6, 2_048, 4, 512),
            Hardware("cloud", 150e-3, 0.05e-3, 0.8e-9, 9.0e-3, 0.0, 0.0, 100_000, 1024, 65_536, 0.06, visible=False),
        )
    }
)
