"""The policy as columns, and who could ever serve what."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.fleet import Discovery, build_fleet, signature
from gpubalancer.domain.work import Preference, Selection, Work
from gpubalancer.policy.schema import Policy
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
    assert len(made._eligible) <= 4096


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


RULED = """
models: {llama: {context_tokens: 100}}
backends:
  - {name: a, url: "http://127.0.0.1:1", kind: gpu, engine: vllm, hardware: h100, models: [llama], labels: {x: y, z: w}}
  - {name: b, url: "http://127.0.0.1:2", kind: cpu, engine: llamacpp, models: [llama, phi], labels: {x: y}}
  - {name: c, url: "http://127.0.0.1:3", models: [llama]}
"""


def selected(**given: set[str] | set[tuple[str, str]]) -> Selection:
    """What a rule asks for."""
    return Selection(**{key: frozenset(values) for key, values in given.items()})  # type: ignore[arg-type]  # by name


SELECTIONS = [
    (Selection(), [True, True, True]),
    (selected(names={"a", "c"}), [True, False, True]),
    (selected(kinds={"gpu", "cloud"}), [True, False, False]),
    (selected(engines={"llamacpp", "vllm"}), [True, True, False]),
    (selected(hardware={"h100"}), [True, False, False]),
    (selected(labels={("x", "y")}), [True, True, False]),
    (selected(labels={("x", "y"), ("z", "w")}), [True, False, False]),
    (selected(kinds={"cpu"}, engines={"vllm"}), [False, False, False]),
]


@pytest.mark.parametrize(("selection", "fits"), SELECTIONS)
def test_what_rules_require(selection: Selection, fits: Sequence[bool]) -> None:
    """All that is given must hold, of a set one, and what is not known of a backend does not hold."""
    made, asked = fleet(RULED), replace(work(), required=(selection,))
    assert made.ineligible(asked) == [None if fit else "rule" for fit in fits]
    assert made.eligible(asked).tolist() == fits


def test_every_requirement_must_hold() -> None:
    """What two rules require is required together."""
    asked = replace(work(), required=(selected(labels={("x", "y")}), selected(kinds={"cpu"})))
    assert fleet(RULED).ineligible(asked) == ["rule", None, "rule"]


def test_denied_kinds() -> None:
    """A backend of a denied kind is dropped, and so is one whose kind is not known, until its server tells it."""
    asked = replace(work(), denied_kinds=frozenset({"cloud"}))
    assert fleet(RULED).ineligible(asked) == [None, None, "rule"]
    assert fleet(RULED, {"c": Discovery(kind="cpu")}).ineligible(asked) == [None, None, None]
    assert fleet(RULED, {"c": Discovery(kind="cloud")}).ineligible(asked) == [None, None, "rule"]


def test_discovered_engines_count() -> None:
    """What the server says of its engine opens it to rules for that engine."""
    asked = replace(work(), required=(selected(engines={"ollama"}),))
    assert fleet(RULED, {"c": Discovery(engine="ollama")}).ineligible(asked) == ["rule", "rule", None]


def test_the_kept_answers_know_the_rules() -> None:
    """Work with other requirements or denials gets its own answer, in whatever order it comes."""
    made = fleet(RULED)
    kinds = [
        work(),
        replace(work(), denied_kinds=frozenset({"gpu"})),
        replace(work(), required=(selected(kinds={"gpu"}),)),
    ]
    assert len({signature(kind) for kind in kinds}) == 3
    for _ in range(2):
        assert [made.eligible(kind).tolist() for kind in kinds] == [
            [True, True, True],
            [False, True, False],
            [True, False, False],
        ]


def test_preferences_are_seconds() -> None:
    """Backends that fit cost so many seconds less; preferences for the same backend add up; none is nothing."""
    made = fleet(RULED)
    assert made.preference_s(work()).tolist() == [0, 0, 0]
    preferred = (Preference(selected(kinds={"cpu"}), 0.5), Preference(selected(labels={("x", "y")}), 2.0))
    for _ in range(2):
        assert made.preference_s(replace(work(), preferred=preferred)).tolist() == [-2.0, -2.5, 0]
        assert made.preference_s(replace(work(), preferred=preferred[:1])).tolist() == [0, -0.5, 0]


def test_kept_answers_are_read_only() -> None:
    """Nobody can change what others will get."""
    made = fleet(RULED)
    for kept in (made.eligible(work()), made.preference_s(work())):
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 0


@pytest.mark.parametrize(
    ("model", "prompt_tokens", "batch", "objection"),
    [
        ("llama", 99, 1, None),
        ("llama", 100, 1, "context"),
        ("llama", 10**9, 1, "context"),
        ("llama", 199, 2, None),
        ("llama", 200, 2, "context"),
        ("phi", 10**9, 1, None),
        (None, 10**9, 1, None),
    ],
)
def test_a_prompt_must_leave_a_token_of_context(
    model: str | None, prompt_tokens: int, batch: int, objection: str | None
) -> None:
    """Only where a model's context is known, and of a batch the average prompt; expected output is no reason."""
    made = fleet(RULED)
    for _ in range(2):
        asked = replace(work(model=model), prompt_tokens=prompt_tokens, counted=True, batch=batch)
        asked.output_tokens_high = 10**9
        assert made.ineligible(asked)[1] == objection
        assert made.eligible(asked)[1] == (objection is None)
        assert made.exceeds_context(asked) is (objection == "context")


def test_an_estimated_prompt_is_never_too_long() -> None:
    """Only a count refuses: an estimate may be wrong, and the engine knows better."""
    assert not fleet(RULED).exceeds_context(replace(work(), prompt_tokens=10**9))


def test_context_is_the_last_of_the_lasting_reasons() -> None:
    """A backend that may not serve a request for another reason is dropped by that reason."""
    asked = replace(work(), prompt_tokens=100, counted=True, denied_kinds=frozenset({"gpu"}))
    assert fleet(RULED).ineligible(asked) == ["rule", "context", "rule"]


@given(st.lists(st.integers(0, 10**6), max_size=50))
def test_lengths_of_prompts_are_no_kinds_of_work(lengths: list[int]) -> None:
    """However many different prompts come, one answer is kept for all of them."""
    made = fleet(RULED)
    for length in [0, *lengths]:
        made.eligible(replace(work(), prompt_tokens=length, output_tokens_high=length))
    assert len(made._eligible) == 1


def test_who_serves_the_same_models_is_one_pool() -> None:
    """In whatever order, and under whatever names of the server's own."""
    backends = [
        {"name": "a", "url": "http://127.0.0.1:1", "models": ["m", "n"]},
        {"name": "b", "url": "http://127.0.0.1:2", "models": {"n": "x", "m": "y"}},
        {"name": "c", "url": "http://127.0.0.1:3", "models": ["m"]},
    ]
    made = build_fleet(Policy.model_validate({"backends": backends}), {"a": 0, "b": 1, "c": 2}, {})
    assert made.pools.tolist() == [0, 0, 1]
    assert made.index_of_row == {0: 0, 1: 1, 2: 2}


def test_who_has_an_adapter_loaded_is_preferred_beside_what_rules_prefer() -> None:
    """Both add up; adapters are known by what servers say."""
    made = fleet(discovered={"a": Discovery(("llama", "lora"), adapters=("lora",))})
    assert made.adapters == {"lora"}
    asked = work()
    asked.preferred = (Preference(Selection(names=frozenset({"b"})), 2.0),)
    asked.loaded = (Preference(Selection(names=frozenset({"a", "b"})), 0.5),)
    assert made.preference_s(asked).tolist() == [-0.5, -2.5, 0.0]
