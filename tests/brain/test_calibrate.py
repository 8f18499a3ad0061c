"""Learning speeds from answers: simulated backends, all claimed to be A100s."""

import json
import math
import statistics
from random import Random

import pytest

from gpubalancer.brain.calibrate import Calibrator, Sample, sample_of
from gpubalancer.brain.cost import Weight
from gpubalancer.brain.priors import CLASSES, CPU, USUAL_TPOT_RATIO, USUAL_TTFT_RATIO, Coefficients, Prior
from gpubalancer.brain.weighed import Forecast
from tests.brain.economies import load

CLAIMED = CLASSES["a100"]
TRUTH = {
    "as-claimed": CLAIMED.curves,
    "slow": Coefficients(*(8 * each for each in CLAIMED.curves)),
    "cpu": Coefficients(*(40 * each for each in CLAIMED.curves)),
    "quick": CLASSES["h100"].curves,
    "real-cpu": CPU.curves,
}


class Fleet:
    """Backends with true speeds, and what was learned of them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.calibrator = Calibrator()
        self.calibrator.expect(dict.fromkeys(TRUTH, CLAIMED))
        self.now_s = 0.0

    def prefill_s(self, curves: Coefficients, tokens: float) -> float:
        """Of these curves, network included."""
        return CLAIMED.net_s + curves.a0_s + curves.a1_s * tokens + curves.a2_s * tokens * tokens

    def step_s(self, curves: Coefficients, batch: float, context: float) -> float:
        """Of these curves."""
        return curves.d0_s + curves.d1_s * batch + curves.d2_s * context

    def answer(self, name: str, factor: float = 1.0, speed: float = 1.0) -> float:
        """One request: learn from it; returns predicted over measured time to the first token."""
        random, learned = self.random, self.calibrator.measured(name, self.now_s).curves
        prompt, queued = random.lognormvariate(6.5, 1.0), random.choice((0.0, 0.0, random.uniform(0, 4000)))
        batch = float(random.randrange(20))
        context = batch * random.uniform(600, 1500)
        truth = TRUTH[name]
        noise = factor * random.lognormvariate(0, 0.15) / speed
        ttft_s = self.prefill_s(truth, prompt + queued) * noise
        read = context * random.uniform(0.0, 0.3)
        stopped_s = truth.a1_s * read / 199
        tpot_s = (self.step_s(truth, batch + 1, context + prompt) + stopped_s) * noise
        predicted_s = self.prefill_s(learned, prompt + queued) / speed
        self.now_s += 0.3
        stuck = 30.0 if random.random() < 0.02 else 1.0
        times = ttft_s * stuck, tpot_s, predicted_s, tpot_s
        sample = Sample(name, prompt, queued, batch, context, speed, 200, *times, int(read))
        self.calibrator.learn([sample], self.now_s)
        return predicted_s / ttft_s


@pytest.mark.parametrize("seed", range(1, 9))
def test_two_hundred_requests_teach_the_speed_of_everyone(seed: int) -> None:
    """After 200 requests to backends claimed to be equal, each one's predicted TTFT is within 25 % at the median."""
    fleet = Fleet(seed)
    shares = {"as-claimed": 80, "quick": 80, "slow": 20, "real-cpu": 10, "cpu": 10}
    for name, count in shares.items():
        for _ in range(count):
            fleet.answer(name)
    for name, truth in TRUTH.items():
        learned = fleet.calibrator.measured(name, fleet.now_s).curves
        prompts = [fleet.random.lognormvariate(6.5, 1.0) for _ in range(200)]
        errors = [abs(fleet.prefill_s(learned, each) / fleet.prefill_s(truth, each) - 1.0) for each in prompts]
        assert statistics.median(errors) < 0.25, name


def test_what_others_prompts_took_is_not_taken_for_the_step() -> None:
    """With half of every answer's time spent on prompts of others, the step is still known within a third."""
    calibrator, random = Calibrator(), Random(8)
    calibrator.expect({"b": CLAIMED})
    for _ in range(100):
        batch, read = float(random.randrange(10, 30)), random.randrange(5000, 15_000)
        step_s = TRUTH["quick"].d0_s + TRUTH["quick"].d1_s * (batch + 1) + TRUTH["quick"].d2_s * 1000 * (batch + 1)
        ttft_s = CLAIMED.net_s + CLAIMED.curves.a0_s + (CLAIMED.curves.a1_s + CLAIMED.curves.a2_s * 1000) * 1000
        tpot_s = step_s + CLAIMED.curves.a1_s * read / 199
        calibrator.learn([Sample("b", 1000, 0, batch, 1000 * batch, 1.0, 200, ttft_s, tpot_s, ttft_s, 0.04, read)], 1.0)
    learned = calibrator.measured("b", 2.0).curves
    truth = TRUTH["quick"]
    expected_s = truth.d0_s + truth.d1_s * 20 + truth.d2_s * 20_000
    assert learned.d0_s + learned.d1_s * 20 + learned.d2_s * 20_000 == pytest.approx(expected_s, rel=0.34)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_silent_halving_of_speed_is_followed(seed: int) -> None:
    """When a machine becomes half as fast without a word, the next ten requests or so teach it."""
    fleet = Fleet(seed)
    for _ in range(100):
        fleet.answer("quick")
    ratios = [fleet.answer("quick", factor=2.0) for _ in range(40)]
    assert statistics.median(ratios[:4]) < 0.7
    assert statistics.median(abs(ratio - 1.0) for ratio in ratios[12:]) < 0.25


def test_a_throttle_that_is_seen_is_not_learned() -> None:
    """With the clock at half and known to be, the curves stay those of full speed."""
    fleet = Fleet(4)
    for _ in range(60):
        fleet.answer("as-claimed")
    before = fleet.calibrator.measured("as-claimed", fleet.now_s).curves
    for _ in range(60):
        fleet.answer("as-claimed", speed=0.5)
    after = fleet.calibrator.measured("as-claimed", fleet.now_s).curves
    assert fleet.prefill_s(after, 1000) == pytest.approx(fleet.prefill_s(before, 1000), rel=0.25)


def test_the_time_per_token_is_learned_too() -> None:
    """Steps that are far from the claim are known within a third after 60 requests."""
    fleet = Fleet(5)
    for _ in range(60):
        fleet.answer("real-cpu")
    learned = fleet.calibrator.measured("real-cpu", fleet.now_s).curves
    for batch in (2, 10):
        expected = fleet.step_s(CPU.curves, batch, 1000 * batch)
        assert fleet.step_s(learned, batch, 1000 * batch) == pytest.approx(expected, rel=0.34)


def test_times_above_the_prediction_tighten_admission() -> None:
    """Five late answers within a second, and predictions count for more; minutes later they do not."""
    calibrator = Calibrator()
    calibrator.expect({"b": CLAIMED})
    late = Sample("b", 1000, 0, 4, 4000, 1.0, 200, 1.5, 0.08, 0.5, 0.03, 0)
    assert calibrator.learn([late] * 5, 100.0) == {"b"}
    now = calibrator.measured("b", 100.5)
    assert now.ttft_ratio > 1.1 * USUAL_TTFT_RATIO
    assert now.tpot_ratio > 1.1 * USUAL_TPOT_RATIO
    assert calibrator.measured("b", 700.0).ttft_ratio == pytest.approx(USUAL_TTFT_RATIO, rel=0.01)


def test_answers_that_tell_nothing_teach_nothing() -> None:
    """No times, too few tokens, a time below the network's, or an unknown backend: the prior stays."""
    calibrator = Calibrator()
    calibrator.expect({"b": CLAIMED})
    silent = Sample("b", 1000, 0, 4, 4000, 1.0, 200, 0.0, 0.0, 0.5, 0.03, 0)
    short = silent._replace(tpot_s=0.5, completion_tokens=3)
    odd = silent._replace(ttft_s=CLAIMED.net_s / 2)
    assert calibrator.learn([silent, short, odd, silent._replace(backend="gone", ttft_s=9.0)], 1.0) == {"b"}
    assert calibrator.samples("b") == 0
    assert calibrator.measured("b", 1.0).curves == pytest.approx(CLAIMED.curves)


def test_a_reload_keeps_what_was_learned() -> None:
    """Backends that stay keep their fits; another class, or a new backend, begins with its prior."""
    fleet = Fleet(6)
    for _ in range(20):
        fleet.answer("slow")
        fleet.answer("cpu")
    learned = fleet.calibrator.measured("slow", 99.0)
    fleet.calibrator.expect({"slow": CLAIMED, "cpu": CPU, "new": CLAIMED})
    assert fleet.calibrator.measured("slow", 99.0) == learned
    assert fleet.calibrator.measured("cpu", 99.0).curves == pytest.approx(CPU.curves)
    assert fleet.calibrator.samples("new") == 0
    with pytest.raises(KeyError):
        fleet.calibrator.measured("quick", 99.0)


def test_the_state_survives_a_restart() -> None:
    """What was learned comes back through JSON for the backends whose claim is the same; the rest is passed over."""
    fleet = Fleet(7)
    for _ in range(20):
        fleet.answer("slow")
        fleet.answer("cpu")
    state = json.loads(json.dumps(fleet.calibrator.to_state()))
    state["quick"] = {"prior": list(CLAIMED.curves), "prefill": {}, "step": 3}
    state["as-claimed"] = "nonsense"
    again = Calibrator()
    again.expect({"slow": CLAIMED, "cpu": Prior(CPU.curves, 0.0, 0.0), "quick": CLAIMED, "as-claimed": CLAIMED})
    assert again.from_state(state) == 1
    assert again.measured("slow", 0.0).curves == pytest.approx(fleet.calibrator.measured("slow", 0.0).curves)
    assert again.measured("cpu", 0.0).curves == pytest.approx(CPU.curves)
    assert again.measured("quick", 0.0).curves == pytest.approx(CLAIMED.curves)


def test_a_sample_travels_as_a_list() -> None:
    """A sample is what was forecast and what came; as JSON it is a row, and the row is a sample again."""
    weight = Weight(9.0, 0.5, 0.2, 0.03, 0.02, 0.0, 1.0, 2.0, 0.0)
    forecast = Forecast(3, load(batch=4.0, queued_tokens=300.0, context_tokens=5000.0, speed_fraction=0.9), weight)
    sample = sample_of("b", forecast, 800.0, 150, 0.6, 0.025, 70)
    assert sample == ("b", 800.0, 300.0, 4.0, 5000.0, 0.9, 150, 0.6, 0.025, 0.5, 0.03, 70)
    assert Sample(*json.loads(json.dumps(sample))) == sample
    assert not any(math.isnan(each) for each in sample[1:])
