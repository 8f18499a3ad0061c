"""The table of detectors."""

from typing import get_args

import hyperscan
import pytest

from gpubalancer.brain.sensitivity.detectors import DETECTORS
from gpubalancer.brain.sensitivity.rule import Rule
from gpubalancer.policy.tiers import Detector

RULES = [(name, rule) for name, rules in DETECTORS.items() for rule in rules]


def test_every_name_of_the_policy_has_rules() -> None:
    """The detectors are exactly those that a policy can name, and each has a rule."""
    assert set(DETECTORS) == set(get_args(Detector))
    assert all(DETECTORS.values())


@pytest.mark.parametrize(("name", "rule"), RULES, ids=[f"{name}-{index}" for index, (name, _) in enumerate(RULES)])
def test_each_trigger_compiles_with_its_start(name: str, rule: Rule) -> None:
    """Hyperscan can report where each trigger began, and none matches nothing."""
    flags = hyperscan.HS_FLAG_SOM_LEFTMOST
    hyperscan.Database().compile(expressions=[rule.trigger], ids=[0], elements=1, flags=[flags])
    assert rule.pattern.match(b"") is None
