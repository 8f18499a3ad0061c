"""What a policy's fleet costs, before and after something was measured."""

from gpubalancer.brain.columns import Measured
from gpubalancer.brain.fleet import build_fleet
from gpubalancer.brain.priors import Coefficients
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.judging import Judge

POLICY = Policy.model_validate(
    {
        "backends": [
            {"name": "a", "url": "http://127.0.0.1:9", "hardware": "h100", "models": ["m"]},
            {"name": "b", "url": "http://127.0.0.1:8", "hardware": "l40s", "models": ["m"]},
        ],
        "routing": {"mode": "frugal", "slo": {"ttft": "2s"}},
        "telemetry": {"stale_after": "7s"},
    }
)


def judge() -> Judge:
    """Of two backends."""
    return Judge(POLICY, build_fleet(POLICY, {"a": 0, "b": 1}, {}))


def test_priors_and_settings_make_the_method() -> None:
    """The faster class is expected to be faster, and the policy's words are kept."""
    made = judge()
    first, second = made.method.rows
    assert first.a1_s < second.a1_s
    assert made.method.frugal
    assert made.method.slo is not None
    assert made.fades_s == 7.0


def _with(tiers: list[str], clearances: dict[str, str]) -> Judge:
    """Other tiers and backends; rows are by name."""
    backends = [
        {"name": name, "url": f"http://127.0.0.1:{ord(name)}", "models": ["m"], "clearance": clearance}
        for name, clearance in clearances.items()
    ]
    policy = Policy.model_validate({"tiers": [{"name": name} for name in tiers], "backends": backends})
    return Judge(policy, build_fleet(policy, {"a": 0, "b": 1, "c": 2}, {}))


def test_a_newer_policy_bars() -> None:
    """Who is no longer cleared, or gone, is barred by the tier's name; a tier that is gone bars everybody."""
    old = _with(["public", "secret"], {"a": "public", "b": "secret", "c": "secret"})
    lowered = _with(["public", "secret"], {"a": "secret", "b": "public"})
    assert old.barred_by(old, 1) is None
    assert [_barred(old, lowered, tier) for tier in (0, 1)] == [["c"], ["b", "c"]]
    inserted = _with(["public", "internal", "secret"], {"a": "public", "b": "internal", "c": "secret"})
    assert _barred(old, inserted, 1) == ["a", "b"]
    assert _barred(old, _with(["public"], {"b": "public"}), 1) == ["a", "b", "c"]


def _barred(old: Judge, newest: Judge, tier: int) -> list[str]:
    flags = old.barred_by(newest, tier)
    assert flags is not None
    return [name for name, is_barred in zip(old.fleet.names, flags, strict=True) if is_barred]


def test_what_was_measured_takes_the_place_of_the_prior() -> None:
    """By name; a backend that is not of the fleet, or was not measured, changes nothing."""
    made, before = judge(), judge().method.rows
    curves = Coefficients(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    made.learn({"b": Measured(curves, 1.5, 1.6), "gone": Measured(curves)})
    assert made.method.rows[0] == before[0]
    assert (made.method.rows[1].a1_s, made.method.rows[1].d2_s, made.method.rows[1].ttft_ratio) == (2.0, 6.0, 1.5)
    assert made.method.frugal
    made.learn({})
    assert made.method.rows[1].a1_s == 2.0
