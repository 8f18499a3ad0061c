"""What the tests of the detectors share: a scanner with all of them, and the names of what it finds."""

from functools import cache
from typing import get_args

from gpubalancer.brain.sensitivity.scan import Scanner
from gpubalancer.policy.tiers import Detector, Sensitivity

TIERS = {"low": 0, "high": 1}


def scanner(**settings: object) -> Scanner:
    """A scanner with these settings of the policy's section."""
    return Scanner(Sensitivity.model_validate(settings), TIERS)


@cache
def everything() -> Scanner:
    """A scanner with all detectors and the phrases of injection."""
    return scanner(detectors=dict.fromkeys(get_args(Detector), "high"))


def found(*texts: str) -> dict[str, int]:
    """Detector and count for a message of these parts."""
    return {finding.detector: finding.count for finding in everything().scan([texts]).findings}
