"""Learning in the supervisor: what workers send comes back to all of them, and survives a restart."""

from pathlib import Path

import orjson
import pytest

from gpubalancer.brain.calibrate import Sample
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.calibration import SAVE_S, Calibration, read_rows

POLICY = Policy.model_validate({"backends": [{"name": "a", "url": "http://127.0.0.1:9", "hardware": "h100"}]})


class Clock:
    """A clock that only moves when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def slow(name: str = "a") -> list[object]:
    """A sample of a backend that takes a second for 1,000 tokens, as it comes out of JSON."""
    sample = Sample(name, 1000.0, 0.0, 0.0, 0.0, 1.0, 20, 1.0, 0.1, 0.2, 0.02, 0)
    row: list[object] = orjson.loads(orjson.dumps(list(sample)))
    return row


def learned(calibration: Calibration, count: int = 60) -> float:
    """What 1,000 tokens are expected to take after so many samples."""
    for _ in range(count):
        calibration.learn([slow()])
    curves = read_rows(calibration.rows)["a"].curves
    return curves.a0_s + 1000 * curves.a1_s + 1e6 * curves.a2_s


def test_samples_become_news_for_all_workers(tmp_path: Path) -> None:
    """Only of backends that have changed, and only of those that the policy has."""
    calibration = Calibration(tmp_path / "learned.json", Clock())
    calibration.expect(POLICY, {})
    assert calibration.rows == {}
    assert set(calibration.learn([slow(), slow("gone")])) == {"a"}
    assert learned(calibration) == pytest.approx(1.0, rel=0.2)


def test_what_was_learned_survives_a_restart(tmp_path: Path) -> None:
    """The next supervisor goes on where this one ended."""
    path = tmp_path / "learned.json"
    first = Calibration(path, Clock())
    first.expect(POLICY, {})
    before = learned(first)
    first.save()
    second = Calibration(path, Clock())
    second.expect(POLICY, {})
    assert set(second.rows) == {"a"}
    assert learned(second, count=1) == pytest.approx(before, rel=0.05)


def test_it_is_written_now_and_then(tmp_path: Path) -> None:
    """Not with every sample."""
    path, clock = tmp_path / "learned.json", Clock()
    calibration = Calibration(path, clock)
    calibration.expect(POLICY, {})
    calibration.learn([slow()])
    assert not path.exists()
    clock.now_s += SAVE_S
    calibration.learn([slow()])
    assert path.exists()


def test_a_backend_of_another_class_begins_anew(tmp_path: Path) -> None:
    """What an H100 showed says nothing of the CPU that has taken its name."""
    calibration = Calibration(tmp_path / "learned.json", Clock())
    calibration.expect(POLICY, {})
    learned(calibration)
    other = Policy.model_validate({"backends": [{"name": "b", "url": "http://127.0.0.1:9", "hardware": "cpu"}]})
    calibration.expect(other, {})
    assert calibration.rows == {}
    assert calibration.learn([slow("a")]) == {}


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 3}', '{"a": {"prior": []}}'])
def test_a_damaged_file_is_passed_over(tmp_path: Path, content: str) -> None:
    """What it would have told is learned anew."""
    path = tmp_path / "learned.json"
    path.write_text(content)
    calibration = Calibration(path, Clock())
    calibration.expect(POLICY, {})
    assert learned(calibration) > 0
