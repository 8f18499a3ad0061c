"""The worst inputs: that each is what it says, and that one round through a real balancer gives figures."""

import orjson
import pytest

from bench.hostile_bodies import BODIES, SECRETS
from bench.loop_hold import bytes_on_the_wire, inputs, largest_light, measure
from gpubalancer.brain.content import LOOP_BYTES, heavy


@pytest.mark.parametrize("name", [*BODIES, *SECRETS])
def test_bodies_have_about_their_size(name: str) -> None:
    """Whatever they are made of; what a limit of depth refuses is JSON but for that."""
    body = {**BODIES, **SECRETS}[name](20_000)
    assert 15_000 < len(body) < 22_000
    if name not in ("opening brackets", "nested lists", "nested objects", "one huge number", "one key again and again"):
        assert orjson.loads(body)["model"] == "m"


@pytest.mark.parametrize("name", ["one letter", "small numbers", "tiny messages"])
def test_the_largest_that_is_read_here(name: str) -> None:
    """A little more of it is read in another process."""
    make = BODIES[name]
    body = largest_light(make)
    assert not heavy(body)
    assert heavy(make(len(body) + 1000))
    assert len(body) <= LOOP_BYTES


def test_every_kind_of_input_is_sent() -> None:
    """Bytes, what is read here and what is read elsewhere, each under its own name."""
    found = [(each.kind, each.name) for each in inputs(30_000)]
    assert len(set(found)) == len(found) == len(bytes_on_the_wire()) + 2 * len(BODIES) + len(SECRETS)


def test_one_round() -> None:
    """Each input gets its answer, and its figures."""
    names = ("small numbers", "chunks of one byte", "pipelined requests")
    found = {(each.kind, each.name): each for each in measure(1_000_000, 1, names)}
    assert set(found) == {
        ("bytes", "chunks of one byte"),
        ("bytes", "pipelined requests"),
        ("read here", "small numbers"),
        ("read apart", "small numbers"),
    }
    assert found["read apart", "small numbers"].status == 200
    assert all(each.cpu_ms > 0 for each in found.values())
