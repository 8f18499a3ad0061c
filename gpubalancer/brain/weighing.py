"""The cost of a request on every candidate: one by one in small fleets, in blocks of columns in large ones."""

from typing import Any

import numpy as np

from gpubalancer.brain.columns import Column, row_of
from gpubalancer.brain.constraints import candidate_indices, candidates
from gpubalancer.brain.cost import weigh
from gpubalancer.brain.fleet import Flags, Fleet
from gpubalancer.brain.live import Live, as_list
from gpubalancer.brain.method import Method
from gpubalancer.brain.weighed import Few, Forecast, Many, Weighed
from gpubalancer.domain.work import Work


def weigh_all(fleet: Fleet, work: Work, live: Live, tried: Flags | None, method: Method) -> Weighed | None:
    """Every candidate's cost; None if there is no candidate."""
    if method.rows:
        return _weigh_few(candidate_indices(fleet, work, live, tried), fleet, work, live, method)
    flags = candidates(fleet, work, live, tried)
    return _weigh_many(flags, fleet, work, live, method) if flags.any() else None


def _weigh_few(indices: list[int], fleet: Fleet, work: Work, live: Live, method: Method) -> Few | None:
    economies, loads = [method.rows[index] for index in indices], live.loads(indices)
    few = Few(indices, economies, loads, [], [], [], [])
    prompt_tokens, output_tokens, weights = work.prompt_tokens, work.output_tokens, method.weights
    prefer = fleet.preference_s(work).tolist() if work.preferred or work.loaded else None
    in_flight = as_list(live.in_flight)
    for index, economy, load in zip(indices, economies, loads, strict=True):
        weight = weigh(economy, load, prompt_tokens, output_tokens, weights, prefer[index] if prefer else 0.0)
        few.weights.append(weight)
        few.ttft_s.append(weight.ttft_s * economy.ttft_ratio)
        few.tpot_s.append(weight.tpot_s * economy.tpot_ratio)
        few.shares.append(in_flight[index] / economy.slots)
    return few if indices else None


def _weigh_many(flags: Flags, fleet: Fleet, work: Work, live: Live, method: Method) -> Many:
    # One by one and not as rows of one array: what is larger than 128 KiB comes from the kernel, page by page.
    total_s, ttft_s, tpot_s, batches, shares = (np.empty(len(fleet), np.float32) for _ in range(5))
    usd = np.empty(len(fleet), np.float32) if method.frugal else None
    prompt_tokens, output_tokens, weights = work.prompt_tokens, work.output_tokens, method.weights
    prefer: Any = fleet.preference_s(work).astype(np.float32) if work.preferred or work.loaded else None
    for part, economy in method.blocks:
        load = live.load(part)
        weight = weigh(economy, load, prompt_tokens, output_tokens, weights, 0.0 if prefer is None else prefer[part])
        total_s[part], batches[part] = weight.total_s, load.batch
        np.multiply(weight.ttft_s, economy.ttft_ratio, out=ttft_s[part])
        np.multiply(weight.tpot_s, economy.tpot_ratio, out=tpot_s[part])
        np.divide(live.in_flight[part], economy.slots, out=shares[part])
        if usd is not None:
            usd[part] = weight.usd

    def idle() -> tuple[Column, Column]:
        return _idle(flags, work, live, method)

    def forecast(index: int) -> Forecast:
        one, prefer_s = live.load_of(index), 0.0 if prefer is None else float(prefer[index])
        found = weigh(row_of(method.economy, index), one, prompt_tokens, output_tokens, weights, prefer_s)
        return Forecast(index, one, found)

    return Many(flags, total_s, ttft_s, tpot_s, usd, batches, shares, idle, forecast)


def _idle(flags: Flags, work: Work, live: Live, method: Method) -> tuple[Column, Column]:
    """Worked out anew: it is asked for only where nobody keeps the SLO."""
    ttft_s, tpot_s = np.full(flags.size, np.inf, np.float32), np.full(flags.size, np.inf, np.float32)
    for part, economy in method.blocks:
        weight = weigh(economy, live.load(part), work.prompt_tokens, work.output_tokens, method.weights)
        np.multiply(weight.idle_ttft_s, economy.ttft_ratio, out=ttft_s[part], where=flags[part])
        np.multiply(weight.idle_tpot_s, economy.tpot_ratio, out=tpot_s[part], where=flags[part])
    return ttft_s, tpot_s
