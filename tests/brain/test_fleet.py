"""The policy as columns, and who could ever serve what."""

from collections.abc import Sequence

import pytest

from gpubalancer.brain.fleet import Discovery, allows
from gpubalancer.domain.work import Work
from tests.brain.policies import fleet, work


def test_columns() -> None:
    """Names, rows, slots and clearances stand in the policy's order."""
    made = fleet()
    assert made.names == ("a", "b", "c")
    assert (made.rows.tolist(), made.slots.tolist(), made.clearance.tolist()) == ([3, 5, 1], [8, 4, 2], [2, 1, 0])
    assert len(made) == 3


def test_names_of_models() -> None:
    """Aliases lead to the public name; a backend's own name is no public one."""
    made = fleet()
    assert made.resolve("llama") == made.resolve("gpt-4o-mini") == "llama"
    assert made.resolve("meta/llama") is None
    assert made.resolve("nothing") is None
    assert made.models() == ["llama", "phi", "resnet"]
    assert made.served[1]["llama"] == "meta/llama"


@pytest.mark.parametrize(
    ("asked", "objections"),
    [
        (work(), [None, None, "api"]),
        (work(tier=1), [None, None, "api"]),
        (work(tier=2), [None, "clearance", "api"]),
        (work(model="phi"), [None, "model", "api"]),
        (work("embeddings"), [None, "api", "api"]),
        (work("kserve", "resnet"), ["api", "api", None]),
        (work("kserve", None), ["api", "api", None]),
        (work("kserve", "resnet", 1), ["api", "api", "clearance"]),
        (work(sent_name="llama"), [None, "model", "api"]),
        (work(sent_name="meta/llama"), ["model", None, "api"]),
        (work("claimed", None, claim="/custom/x"), ["claim", "claim", None]),
        (work("claimed", None, claim="/exact"), ["claim", "claim", None]),
        (work("claimed", None, claim="/exact/x"), ["claim", "claim", "claim"]),
        (work("claimed", None, claim="/v1/realtime", upgrade=True), ["claim", None, "claim"]),
        (work("claimed", None, claim="/v1/realtime"), ["claim", "claim", "claim"]),
        (work("claimed", None, claim="/custom/x", upgrade=True), ["claim", "claim", "claim"]),
    ],
)
def test_objections(asked: Work, objections: Sequence[str | None]) -> None:
    """Each backend is dropped by the first constraint that it can never fulfil, and flags say the same."""
    made = fleet()
    assert made.ineligible(asked) == objections
    assert made.eligible(asked).tolist() == [objection is None for objection in objections]
    assert made.eligible(asked).tolist() == [objection is None for objection in objections]


def test_kept_answers_do_not_mix() -> None:
    """Work that differs in one respect only gets its own answer."""
    made = fleet()
    kinds = [
        work(), work(tier=2), work(model="phi"), work("embeddings"), work(sent_name="llama"), work(claim="/exact"),
        work(claim="/v1/realtime", model=None), work(claim="/v1/realtime", model=None, upgrade=True),
    ]  # fmt: skip
    for _ in range(2):
        for kind in kinds:
            assert made.eligible(kind).tolist() == [reason is None for reason in made.ineligible(kind)]


def test_the_memory_of_answers_is_bounded() -> None:
    """However many kinds of work come, few answers are kept."""
    made = fleet()
    for number in range(10_000):
        made.eligible(work(model=f"m{number}"))
    assert len(made._cache) <= 4096


def test_paths() -> None:
    """A claim with a star is a prefix, one without is a path; upgrades are paths."""
    made = fleet()
    assert [made.claimed(path) for path in ("/custom/x", "/custom", "/exact", "/exactly")] == [True, False, True, False]
    assert made.upgradable("/v1/realtime")
    assert not made.upgradable("/v1/realtime/x")


def test_what_a_server_says_fills_what_the_policy_leaves_open() -> None:
    """Discovered models and engine count only where the policy names none."""
    text = 'backends: [{name: a, url: "http://127.0.0.1:1"}, {name: b, url: "http://127.0.0.1:2", models: [phi]}]'
    found = {"a": Discovery(("x", "y"), "ollama"), "b": Discovery(("x",), None)}
    made = fleet(text, found)
    assert made.models() == ["phi", "x", "y"]
    assert "ollama" in made.apis[0]
    assert "ollama" not in made.apis[1]
    assert fleet(text).models() == ["phi"]


def test_apis_of_the_policy_win() -> None:
    """`apis` replaces what the engine usually speaks."""
    made = fleet('backends: [{name: a, url: "http://127.0.0.1:1", engine: vllm, apis: [rerank]}]')
    assert made.apis == (frozenset({"rerank"}),)


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        (("*",), "anything/at:all", True),
        (("llama*",), "llama-3", True),
        (("llama*",), "Llama-3", False),
        (("phi", "llama"), "llama", True),
        (("phi",), "phi-3", False),
        ((), "phi", False),
    ],
)
def test_allows(patterns: tuple[str, ...], model: str, allowed: bool) -> None:
    """A tenant's patterns match whole names, by case."""
    assert allows(patterns, model) is allowed


KINDS = """
backends:
  - {name: a, url: "http://127.0.0.1:1", kind: gpu, models: [llama], labels: {site: basement, rack: r1}}
  - {name: b, url: "http://127.0.0.1:2", kind: cpu, models: [llama], labels: {site: attic}}
  - {name: c, url: "http://127.0.0.1:3", models: [llama]}
"""


@pytest.mark.parametrize(
    ("kinds", "labels", "objections"),
    [
        (None, {}, [None, None, None]),
        ({"gpu"}, {}, [None, "tenant", "tenant"]),
        ({"gpu", "cpu"}, {}, [None, None, "tenant"]),
        (None, {"site": "attic"}, ["tenant", None, "tenant"]),
        (None, {"site": "basement", "rack": "r1"}, [None, "tenant", "tenant"]),
        ({"cpu"}, {"site": "basement"}, ["tenant", "tenant", "tenant"]),
    ],
)
def test_kinds_and_labels_of_a_tenant(
    kinds: set[str] | None, labels: dict[str, str], objections: Sequence[str | None]
) -> None:
    """Only backends of an allowed kind with all the tenant's labels serve it; an unknown kind is not allowed."""
    asked = Work(
        "chat",
        "llama",
        0,
        False,
        float("inf"),
        kinds=None if kinds is None else frozenset(kinds),
        labels=frozenset(labels.items()),
    )
    assert fleet(KINDS).ineligible(asked) == objections


def test_a_discovered_kind_counts() -> None:
    """What the server says of its kind opens it to tenants of that kind."""
    asked = Work("chat", "llama", 0, False, float("inf"), kinds=frozenset({"gpu"}))
    made = fleet(KINDS, {"c": Discovery(kind="gpu")})
    assert made.ineligible(asked) == [None, "tenant", None]
