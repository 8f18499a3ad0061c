"""What a request would cost on a backend, in seconds.

For n prompt tokens, expected output m and a cached prefix of c tokens, on a backend with B requests that hold C tokens
of context and q prompt tokens still to be read before ours:

    TTFT  = net + prefill(q + n - c)
    TPOT  = step(B + 1, C + n)
    harm  = prefill(n - c) * B / slots + m * (step(B + 1, C + n) - step(B, C)) * B
    cost  = (TTFT + w_out * m * TPOT + w_harm * harm) / speed + s_per_usd * usd + s_per_joule * joules + prefer

TTFT and m * TPOT are what the request itself waits, harm is what those who are there already wait more. The machine's
hour and its energy are shared by whom it works for: a prompt is read alone, a step is shared by its batch, so that

    used    = (prefill(n - c) + m * TPOT / (B + 1)) / speed
    usd     = prices by token + usd_per_s * used
    joules  = watts * used

With curves that are the same for all, prefill = a1 x, no prices, w_out = 0 and w_harm = slots (each one that waits
counts in full) the cost is a1 (n - c)(1 + B) on a backend with nothing queued: uncached prefill times batch, the order
of LMetric (arXiv 2603.15202).

What is promised to a request also counts those who come after it. In a steady state as many requests arrive during
one's life as run beside it (Little's law), and each stops it for its prefill; those who run now show how long such
prompts are, and ours stops them in turn. So the TPOT that admission looks at is

    TPOT_among_others = (step(B + 1, C + n) + (B a0 + a1 C + prefill(n - c)) / max(m, 20)) / speed

Of the ways tried in the step-level simulation (own prompt, others' prompts, both; least output of 20, 50 or 100 tokens)
this one kept the SLO most often, on chat and on code, below capacity and above.

Each function takes one backend's numbers or all backends' columns.
"""

from typing import Generic, NamedTuple

from gpubalancer.brain.columns import Economy, N
from gpubalancer.policy.routing import Weights

LEAST_OUTPUT_TOKENS = 20.0
"""Outputs shorter than this are taken for this long where others' prefill is spread over them."""


class Load(NamedTuple, Generic[N]):
    """What is so on a backend now.

    Attributes:
        batch: requests there, running or waiting.
        queued_tokens: uncached prompt tokens to be read before ours.
        context_tokens: tokens of all requests there.
        cached_tokens: of our prompt, what it has read before.
        speed_fraction: its clocks against what they should be, above 0.
    """

    batch: N
    queued_tokens: N
    context_tokens: N
    cached_tokens: N
    speed_fraction: N


class Weight(NamedTuple, Generic[N]):
    """What a request would cost on a backend, and the predictions behind it.

    Attributes:
        total_s: the cost.
        ttft_s: time to the first token.
        idle_ttft_s: the same if nobody else were there.
        tpot_s: time per further token among others.
        idle_tpot_s: the same if nobody else were there.
        usd: what it will cost.
        used_s: how long the machine works for it.
        decode_s, harm_s: as in the formula, at full speed and without weights.
    """

    total_s: N
    ttft_s: N
    idle_ttft_s: N
    tpot_s: N
    idle_tpot_s: N
    usd: N
    used_s: N
    decode_s: N
    harm_s: N


class Terms(NamedTuple, Generic[N]):
    """The summands of the cost, seconds each.

    Attributes:
        net: the way there and back.
        prefill: until the first token, after the way there.
        decode: for all further tokens, weighted.
        harm: what others wait more, weighted.
        usd, joules: money and energy, in the seconds that they are worth.
        prefer: what rules take off, 0 or less.
    """

    net: N
    prefill: N
    decode: N
    harm: N
    usd: N
    joules: N
    prefer: N


def prefill_s(economy: Economy[N], tokens: N) -> N:
    """Seconds to read `tokens` of prompt at full speed."""
    seconds: N = economy.a0_s + (economy.a1_s + economy.a2_s * tokens) * tokens
    return seconds


def step_s(economy: Economy[N], batch: N | float, context_tokens: N | float) -> N:
    """Seconds for one token to each of `batch` requests at full speed."""
    seconds: N = economy.d0_s + economy.d1_s * batch + economy.d2_s * context_tokens
    return seconds


def weigh(
    economy: Economy[N],
    load: Load[N],
    prompt_tokens: float,
    output_tokens: float,
    weights: Weights,
    prefer_s: N | float = 0.0,
) -> Weight[N]:
    """The cost of a request.

    Arguments:
        economy: of one backend or of some.
        load: of the same.
        prompt_tokens: n, 0 if unknown.
        output_tokens: m, 0 for none.
        weights: of the policy.
        prefer_s: what rules take off, 0 or less.
    """
    batch, queued_tokens, context_tokens, cached_tokens, speed = load
    fresh = prompt_tokens - cached_tokens
    fresh = (fresh > 0) * fresh
    own_s = prefill_s(economy, fresh)
    ttft_s = economy.net_s + prefill_s(economy, queued_tokens + fresh)
    # What one more adds to each step, step(B + 1, C + n) - step(B, C), is the same at every batch.
    slower_s = economy.d1_s + economy.d2_s * prompt_tokens
    with_us = batch + 1.0
    step = step_s(economy, with_us, context_tokens + prompt_tokens)
    decode_s = output_tokens * step
    harm_s = (own_s / economy.slots + output_tokens * slower_s) * batch
    least_output = output_tokens if output_tokens > LEAST_OUTPUT_TOKENS else LEAST_OUTPUT_TOKENS
    stopped_s = (batch * economy.a0_s + economy.a1_s * context_tokens + own_s) / least_output
    slowness = 1.0 / speed
    used_s = (own_s + decode_s / with_us) * slowness
    usd = (
        economy.usd_per_prompt_token * fresh
        + economy.usd_per_cached_token * (prompt_tokens - fresh)
        + economy.usd_per_completion_token * output_tokens
        + economy.usd_per_s * used_s
    )
    worth_s = weights.seconds_per_usd * usd + prefer_s
    if weights.seconds_per_joule:
        worth_s = worth_s + weights.seconds_per_joule * economy.watts * used_s
    return Weight(
        (ttft_s + weights.output * decode_s + weights.harm * harm_s) * slowness + worth_s,
        ttft_s * slowness,
        (economy.net_s + own_s) * slowness,
        (step + stopped_s) * slowness,
        (economy.d0_s + slower_s) * slowness,
        usd,
        used_s,
        decode_s,
        harm_s,
    )


def terms_of(
    weight: Weight[N], economy: Economy[N], load: Load[N], weights: Weights, prefer_s: N | float = 0.0
) -> Terms[N]:
    """The summands of a cost that `weigh` gave for the same arguments."""
    speed = load.speed_fraction
    net_s = economy.net_s / speed
    return Terms(
        net=net_s,
        prefill=weight.ttft_s - net_s,
        decode=weights.output * weight.decode_s / speed,
        harm=weights.harm * weight.harm_s / speed,
        usd=weights.seconds_per_usd * weight.usd,
        joules=weights.seconds_per_joule * economy.watts * weight.used_s,
        prefer=prefer_s + net_s * 0.0,
    )
