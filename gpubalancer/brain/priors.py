"""How fast each class of machine is, before anything is measured.

Two curves describe a backend, and everything else about its speed follows from them:

    prefill(x) = a0 + a1 x + a2 x^2      seconds to read x prompt tokens that no cache holds
    step(B, C) = d0 + d1 B + d2 C        seconds for one token each to B requests whose contexts add up to C tokens

The table is a place to start from: `calibrate` moves each backend's own coefficients towards what is measured, and what
matters on the first day is which machine is faster and by about how much. All rows are for 8 billion parameters in 16
bits on one device. Sources:

* A100, H100, L40S: prefill and d0 from the published per-class latency table of llm-d-inference-sim (7-8B models; the
  middle of its ranges: overhead 25-40 ms; per prompt token 0.30-0.55, 0.15-0.30, 0.65-1.00 ms; between tokens 15-25,
  10-15, 25-35 ms). d1 from published throughputs of Llama 3.1 8B at batch 1 and 32. d2 from the 128 KiB of keys and
  values that a token of it takes, over the memory's bandwidth. a2 from the arithmetic: attention adds 1.64e-5 of a
  token's work in the weights for each earlier token.
* Other GPUs: the A100's row scaled by the makers' data sheets (dense 16-bit TFLOPS for a1 and a2, memory bandwidth for
  d0, d1 and d2).
* cpu: llama.cpp, a small model in 4 bits on one thread of a server, measured: 4 ms per prompt token, 37 ms per output
  token alone, 17 ms for each further request.
* cloud: a hosted service seen from outside: more capacity than one client fills, so neither curve bends.
* unknown: the A100's curves without the part that grows with the batch. Of a machine nothing is known of, its slots are
  the best word on how much it bears; so equal unknowns are filled evenly by share of their slots.

Watts are a device's limit by its data sheet, 0 where they are not ours to pay or not known.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

USUAL_TTFT_RATIO, LEAST_TTFT_RATIO, USUAL_TPOT_RATIO = 1.4, 1.2, 1.2
"""By how much admission raises predictions at first, and for TTFT at least (`tightness`). Of constant ones, 1.3 to 1.7
and 1.2 to 1.3 kept the SLO most often in the step-level simulation, in overload as below capacity; 1 costs a tenth of
the goodput, because prompts that come later are read in the same step."""


class Coefficients(NamedTuple):
    """The two curves of one backend; seconds per 1, per token, per token squared, per 1, per request, per token."""

    a0_s: float
    a1_s: float
    a2_s: float
    d0_s: float
    d1_s: float
    d2_s: float


class Prior(NamedTuple):
    """What a class of machine is taken for.

    Attributes:
        curves: its speed.
        net_s: the way there and back, for one request.
        watts: its power under load.
    """

    curves: Coefficients
    net_s: float
    watts: float


A100 = Coefficients(32e-3, 0.40e-3, 6.6e-9, 18e-3, 0.126e-3, 6.6e-8)
A100_TFLOPS, A100_TB_PER_S = 312.0, 2.0


def _by_data_sheet(tflops: float, tb_per_s: float, watts: float) -> Prior:
    arithmetic, memory = A100_TFLOPS / tflops, A100_TB_PER_S / tb_per_s
    curves = Coefficients(
        A100.a0_s,
        A100.a1_s * arithmetic,
        A100.a2_s * arithmetic,
        A100.d0_s * memory,
        A100.d1_s * memory,
        A100.d2_s * memory,
    )
    return Prior(curves, 1e-3, watts)


UNKNOWN = Prior(A100._replace(d1_s=0.0, d2_s=0.0), 1e-3, 0.0)
CPU = Prior(Coefficients(20e-3, 4.0e-3, 66e-9, 20e-3, 17e-3, 5.6e-6), 1e-3, 150.0)
CLOUD = Prior(Coefficients(150e-3, 0.05e-3, 0.8e-9, 10e-3, 0.0, 0.0), 60e-3, 0.0)

CLASSES: Mapping[str, Prior] = MappingProxyType(
    {
        "h100": Prior(Coefficients(32e-3, 0.22e-3, 3.6e-9, 12e-3, 0.073e-3, 3.9e-8), 1e-3, 700.0),
        "a100": Prior(A100, 1e-3, 400.0),
        "l40s": Prior(Coefficients(32e-3, 0.80e-3, 13e-9, 28e-3, 0.187e-3, 15.2e-8), 1e-3, 350.0),
        "cpu": CPU,
        "cloud": CLOUD,
        "b200": _by_data_sheet(2250.0, 8.0, 1000.0),
        "h200": _by_data_sheet(989.0, 4.8, 700.0),
        "mi300x": _by_data_sheet(1307.0, 5.3, 750.0),
        "rtx4090": _by_data_sheet(165.0, 1.0, 450.0),
        "a6000": _by_data_sheet(155.0, 0.77, 300.0),
        "a10": _by_data_sheet(125.0, 0.6, 150.0),
        "l4": _by_data_sheet(121.0, 0.3, 72.0),
        "t4": _by_data_sheet(65.0, 0.32, 70.0),
    }
)
"""Classes by the names that `hardware` is given."""

_KINDS: Mapping[str, Prior] = MappingProxyType({"cpu": CPU, "cloud": CLOUD})


def prior_of(hardware: str | None, kind: str | None) -> Prior:
    """What a backend is taken for: by its class if that is in the table, else by its kind."""
    by_kind = _KINDS.get(kind or "", UNKNOWN)
    return CLASSES.get(hardware.lower(), by_kind) if hardware else by_kind
