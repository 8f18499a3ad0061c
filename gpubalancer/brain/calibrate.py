"""Learning each backend's speed from the answers that it gave.

Samples travel, fits do not: a worker makes a `Sample` of each answer and sends it along with its counts; the supervisor
alone learns from all of them, writes what it learned where every worker reads it, and keeps it over restarts. So there
is one opinion of each backend, made from all that is known of it, and nothing to merge. If the supervisor dies, workers
go on with the last word.

What is fitted:

* prefill, from the time between sending and the first token less the network's, against the uncached tokens that had to
  be read, those queued before included; what was queued may have been half read by then, so a sample counts for less
  the more of it that was;
* step, from the time per further token less what other prompts took of it, against batch and context. Which prompts the
  backend read between a request's first and last token is counted (`board/burdens`), not guessed: what the cost expects
  of them is a mean, and taken off each sample it would leave next to nothing of the step.

Both times are multiplied by the speed that the hardware had: the curves are those of full speed, so that a throttled
clock is not counted twice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gpubalancer.brain.columns import Measured
from gpubalancer.brain.fit import NOISE_FRACTION, Fit
from gpubalancer.brain.priors import LEAST_TTFT_RATIO, USUAL_TPOT_RATIO, USUAL_TTFT_RATIO, Coefficients, Prior
from gpubalancer.brain.tightness import Tightness
from gpubalancer.brain.weighed import Forecast

TYPICAL_TOKENS = 1000.0
TYPICAL_BATCH, TYPICAL_CONTEXT_TOKENS = 8.0, 8000.0
"""A point in the middle of what backends are asked for: a chat's prompt, and eight of them at once."""
STEP_SHAPE_FRACTION = 0.5
"""How free the shape of the step's curve is at first: batches differ more between machines than prompts do."""
LEAST_TPOT_TOKENS = 8
"""Answers shorter than this say nothing of the time per token."""
LEAST_STEP_SHARE = 0.2
"""Of a measured time per token, this much at least is the step itself."""
STOPPED_NOISE = 3.0
"""What others' prompts took is so much noisier than the rest."""
QUEUE_NOISE_FRACTION = 0.8
"""What a sample that is all queue is noisier, in shares of its value."""


class Sample(NamedTuple):
    """What one answer says of the backend that gave it. A list of its fields is a JSON value; `Sample(*row)` is back.

    Attributes:
        backend: its name.
        fresh_tokens: uncached prompt tokens, by the engine's word if it gave one.
        queued_tokens, batch, context_tokens, speed_fraction: of the backend when the request was sent.
        completion_tokens: that it wrote.
        ttft_s: from sending to the first token; 0 if not seen.
        tpot_s: for each further token; 0 if not seen.
        predicted_ttft_s, predicted_tpot_s: when it was chosen.
        others_read_tokens: of others' prompts, read there between its first token and its last.
    """

    backend: str
    fresh_tokens: float
    queued_tokens: float
    batch: float
    context_tokens: float
    speed_fraction: float
    completion_tokens: int
    ttft_s: float
    tpot_s: float
    predicted_ttft_s: float
    predicted_tpot_s: float
    others_read_tokens: int


def sample_of(
    name: str,
    forecast: Forecast,
    fresh_tokens: float,
    completion_tokens: int,
    ttft_s: float,
    tpot_s: float,
    others_read_tokens: int,
) -> Sample:
    """What came, beside what was forecast.

    Arguments:
        name: the backend's.
        forecast: of the choice.
        fresh_tokens: prompt tokens less cached ones, as reported, else as forecast.
        completion_tokens: that came.
        ttft_s: from sending to the first token, 0 if the answer was not streamed.
        tpot_s: for each further token, 0 likewise.
        others_read_tokens: of others' prompts, read there between its first token and its last.
    """
    load, weight = forecast.load, forecast.weight
    return Sample(
        name,
        fresh_tokens,
        load.queued_tokens,
        load.batch,
        load.context_tokens,
        load.speed_fraction,
        completion_tokens,
        ttft_s,
        tpot_s,
        weight.ttft_s,
        weight.tpot_s,
        others_read_tokens,
    )


@dataclass(slots=True)
class _Backend:
    prior: Prior
    prefill: Fit = field(init=False)
    step: Fit = field(init=False)
    ttft: Tightness = field(default_factory=lambda: Tightness(USUAL_TTFT_RATIO, LEAST_TTFT_RATIO))
    tpot: Tightness = field(default_factory=lambda: Tightness(USUAL_TPOT_RATIO, 1.0))

    def __post_init__(self) -> None:
        a0_s, a1_s, a2_s, d0_s, d1_s, d2_s = self.prior.curves
        self.prefill = Fit((a0_s, a1_s, a2_s), (1.0, TYPICAL_TOKENS, TYPICAL_TOKENS**2))
        self.step = Fit((d0_s, d1_s, d2_s), (1.0, TYPICAL_BATCH, TYPICAL_CONTEXT_TOKENS), STEP_SHAPE_FRACTION)

    def learn(self, sample: Sample, now_s: float) -> None:
        tokens = sample.queued_tokens + sample.fresh_tokens
        if sample.ttft_s > 0.0:
            self.ttft.learn(sample.predicted_ttft_s, sample.ttft_s, now_s)
            noise_fraction = NOISE_FRACTION + QUEUE_NOISE_FRACTION * sample.queued_tokens / (tokens + 1.0)
            measured_s = sample.ttft_s * sample.speed_fraction - self.prior.net_s
            self.prefill.learn((1.0, tokens, tokens * tokens), measured_s, noise_fraction)
        if sample.tpot_s > 0.0 and sample.completion_tokens >= LEAST_TPOT_TOKENS:
            self.tpot.learn(sample.predicted_tpot_s, sample.tpot_s, now_s)
            measured_s = sample.tpot_s * sample.speed_fraction
            stopped_s = self.prefill.coefficients[1] * sample.others_read_tokens / (sample.completion_tokens - 1)
            step_s = max(measured_s - stopped_s, LEAST_STEP_SHARE * measured_s)
            # The less of the time is step, the more of it is the error of what was taken off.
            noise_fraction = NOISE_FRACTION * (measured_s + STOPPED_NOISE * (measured_s - step_s)) / step_s
            point = (1.0, sample.batch + 1.0, sample.context_tokens + sample.fresh_tokens)
            self.step.learn(point, step_s, noise_fraction)


class Calibrator:
    """What was learned of every backend. One process owns it."""

    def __init__(self) -> None:
        self._backends: dict[str, _Backend] = {}

    def expect(self, priors: Mapping[str, Prior]) -> None:
        """Know exactly these backends; what was learned of those whose prior is the same stays."""
        kept = self._backends
        self._backends = {
            name: kept[name] if name in kept and kept[name].prior == prior else _Backend(prior)
            for name, prior in priors.items()
        }

    def learn(self, samples: Iterable[Sample], now_s: float) -> set[str]:
        """Take samples in, about 25 us each; returns the names of those that have changed."""
        changed = set()
        for sample in samples:
            backend = self._backends.get(sample.backend)
            if backend is not None:
                backend.learn(sample, now_s)
                changed.add(sample.backend)
        return changed

    def measured(self, name: str, now_s: float) -> Measured:
        """What to reckon with for one backend. Raises KeyError for one that is not expected."""
        backend = self._backends[name]
        curves = Coefficients(*backend.prefill.coefficients, *backend.step.coefficients)
        return Measured(curves, backend.ttft.ratio(now_s), backend.tpot.ratio(now_s))

    def samples(self, name: str) -> int:
        """How many times to the first token have been learned from."""
        return self._backends[name].prefill.samples

    def to_state(self) -> dict[str, Any]:
        """All that was learned, as JSON values. Ratios are of the moment and not kept."""
        return {
            name: {"prior": list(each.prior.curves), "prefill": each.prefill.to_state(), "step": each.step.to_state()}
            for name, each in self._backends.items()
        }

    def from_state(self, state: Mapping[str, Any]) -> int:
        """Go on from a state, for the backends that are expected and whose prior is the same as it was then.

        Returns: how many were restored. What cannot be read is passed over.
        """
        restored = 0
        for name, each in state.items():
            backend = self._backends.get(name)
            if backend is None or not isinstance(each, dict) or each.get("prior") != list(backend.prior.curves):
                continue
            fits = ((backend.prefill, each.get("prefill")), (backend.step, each.get("step")))
            restored += all(isinstance(found, dict) and fit.restore(found) for fit, found in fits)
        return restored
