"""The sections `routing` and `telemetry`."""

import pytest

from gpubalancer.policy.routing import Routing, Telemetry


def test_defaults() -> None:
    """Nothing is held back, three backends are tried, time is what it costs."""
    routing = Routing()
    assert (routing.mode, routing.slo.ttft_s, routing.retries.attempts) == ("fast", None, 3)
    assert (routing.timeouts.connect_s, routing.timeouts.first_byte_s, routing.timeouts.between_bytes_s) == (
        5,
        600,
        300,
    )
    assert (Telemetry().probe_interval_s, Telemetry().interval_s) == (2.0, 1.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"retries": {"attempts": 0}},
        {"retries": {"after_send": "sometimes"}},
        {"queue": {"timeout": "0s"}},
        {"slo": {"ttft": 2}},
        {"weights": {"harm": -1}},
        {"timeouts": {"connect": None, "conect": "5s"}},
        {"mode": "cheap"},
        {"rules": [{"when": {}}]},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    """Each of these is a slip."""
    with pytest.raises(ValueError, match="validation error"):
        Routing.model_validate(settings)
