"""The simulated fleets and how an owner would write them down."""

from collections import Counter
from pathlib import Path

from bench.fleets import CLOUD_SLOTS, FLEETS, Simulated, engine_arguments, policy_text
from gpubalancer.policy.load import parse
from gpubalancer.sim.command import engine


def test_the_mixed_fleet() -> None:
    """Two H100, two A100, four L40S, two CPU machines and a cloud; the other fleet is four of a kind."""
    assert Counter(each.hardware for each in FLEETS["mixed"]) == {"h100": 2, "a100": 2, "l40s": 4, "cpu": 2, "cloud": 1}
    assert len({each.hardware for each in FLEETS["identical"]}) == 1
    assert len(FLEETS["identical"]) == 4


def test_the_policy_is_one() -> None:
    """It is read without a fault, and says what the machines are and what they shall keep."""
    fleet = FLEETS["mixed"]
    policy = parse(policy_text(fleet, range(9001, 9012), 2.0, 0.1), "policy.yaml", Path("/"), {})
    assert [(each.name, each.hardware, each.kind, each.slots) for each in policy.backends] == [
        (each.name, each.hardware, each.kind, each.slots) for each in fleet
    ]
    assert (policy.routing.slo.ttft_s, policy.routing.slo.tpot_s) == (2.0, 0.1)


def test_engines_are_asked_for_what_they_know() -> None:
    """The command line is one that `gpubalancer engine` takes."""
    name, *arguments = engine_arguments(Simulated("cloud-1", "cloud"), 9001)
    context = engine.make_context(name, arguments)
    assert context.params["slots"] == CLOUD_SLOTS
    assert context.params["stream_interval"] > 1
    assert context.params["mean_output_tokens"] == 1
