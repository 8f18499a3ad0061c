"""The limits of a connection."""

from dataclasses import asdict

from gpubalancer.policy.listen import Limits as Settings
from gpubalancer.wire.limits import Limits


def test_the_defaults_are_those_of_the_settings() -> None:
    """A limit that the file leaves out is the same, whether the policy or the wire fills it in."""
    settings = Settings()
    assert asdict(Limits()) == {name: getattr(settings, name) for name in asdict(Limits())}
