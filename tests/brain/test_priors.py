"""What classes of machines are taken for."""

import pytest

from gpubalancer.brain.priors import CLASSES, CLOUD, CPU, UNKNOWN, prior_of


@pytest.mark.parametrize(
    ("hardware", "kind", "expected"),
    [
        ("h100", "gpu", CLASSES["h100"]),
        ("H100", None, CLASSES["h100"]),
        ("cpu", None, CPU),
        (None, "cpu", CPU),
        ("xeon", "cpu", CPU),
        (None, "cloud", CLOUD),
        ("abacus", "gpu", UNKNOWN),
        (None, "gpu", UNKNOWN),
        (None, None, UNKNOWN),
    ],
)
def test_the_class_decides_and_then_the_kind(hardware: str | None, kind: str | None, expected: object) -> None:
    """A class of the table wins over the kind; what neither names is unknown."""
    assert prior_of(hardware, kind) is expected


def test_the_classes_stand_in_the_known_order() -> None:
    """Newer and dearer GPUs read and write faster, and every GPU reads faster than a CPU."""
    curves = [CLASSES[name].curves for name in ("b200", "h200", "a100", "l40s", "a10", "t4")]
    seconds = [each.a0_s + 1000 * each.a1_s + 200 * each.d0_s for each in curves]
    assert seconds == sorted(seconds)
    assert CLASSES["h100"].curves < CLASSES["a100"].curves
    assert all(each.a1_s < CPU.curves.a1_s for each in curves)


def test_no_coefficient_is_below_zero() -> None:
    """A longer prompt, a larger batch and a longer context never take less time."""
    assert all(min(prior.curves) >= 0 and prior.curves.a1_s > 0 and prior.curves.d0_s > 0 for prior in CLASSES.values())


def test_of_the_unknown_slots_are_the_only_word() -> None:
    """An unknown machine's steps are taken as equally long at any batch."""
    assert (UNKNOWN.curves.d1_s, UNKNOWN.curves.d2_s) == (0.0, 0.0)
