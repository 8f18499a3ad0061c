"""The names of a prompt's beginnings, and how far what they foresee is believed."""

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.content import read_content
from gpubalancer.brain.prefix import (
    BLOCK_BYTES,
    FINE_ENDS,
    MOST_SHARE,
    CacheShares,
    foreseen_tokens,
    prefix_of,
    salt_of,
)
from gpubalancer.domain.work import Prefix

PNG = "data:image/png;base64,iVBORw0KGgo="
text = st.text(st.characters(codec="utf-8"), max_size=2_000)
conversation = st.lists(text, min_size=1, max_size=8)


def prefix(*said: str, salt: int = 1, **fields: Any) -> Prefix | None:
    """Of a chat whose messages say this, by turns."""
    messages = [{"role": ("user", "assistant")[at % 2], "content": each} for at, each in enumerate(said)]
    return prefix_of(read_content("chat", {"messages": messages, **fields}), salt)


def shared(one: Prefix | None, other: Prefix | None) -> int:
    """Bytes of the longest beginning that has a name in both."""
    assert one is not None
    assert other is not None
    named = dict(zip(one.names, one.ends_bytes, strict=True))
    return max((named[name] for name in other.names if name in named), default=0)


@given(conversation, st.lists(text, min_size=1, max_size=2))
def test_a_conversation_that_goes_on_is_known_to_where_it_was(before: list[str], more: list[str]) -> None:
    """The answer and the next question follow; all that was sent before has its name, exactly."""
    old, new = prefix(*before), prefix(*before, *more)
    if old is not None:
        assert shared(old, new) == old.size_bytes


@given(conversation, conversation)
def test_equal_names_are_equal_beginnings(one: list[str], other: list[str]) -> None:
    """No two texts share a name beyond where they differ."""
    first, second = prefix(*one), prefix(*other)
    if first is not None and second is not None:
        data, others = ("\0".join((*said, "")).encode() for said in (one, other))
        end = shared(first, second)
        assert data[:end] == others[:end]


@given(conversation, st.tuples(text, text).filter(lambda pair: pair[0] != pair[1]))
def test_no_name_is_another_tenants_or_another_models(said: list[str], owners: tuple[str, str]) -> None:
    """The same text has nothing in common under another tenant, model or table."""
    one, other = owners
    salts = [salt_of(7, one, "m"), salt_of(7, other, "m"), salt_of(7, one, "n"), salt_of(8, one, "m")]
    salts.append(salt_of(7, None, "m"))
    named = [set(found.names) for salt in salts if (found := prefix(*said, salt=salt)) is not None]
    assert sum(len(names) for names in named) == len(set().union(*named))


def test_what_is_shared_inside_a_message_is_found_to_a_third() -> None:
    """Blocks grow with the text: at worst a third of what is shared is missed, and their number stays small."""
    document = "".join(chr(97 + at * at % 26) for at in range(200_000))
    for length in (600, 5_000, 60_000, 199_000):
        found = shared(prefix(document[:length] + "A?"), prefix(document[:length] + "B!"))
        assert length * 2 / 3 <= found <= length
    whole = prefix(document)
    assert whole is not None
    assert len(whole.names) <= 21


def test_a_system_prompt_is_known_exactly() -> None:
    """The first message ends where conversations that share it part."""
    system = "You are a helpful assistant of a bank. " * 100
    assert shared(prefix(system, "A?"), prefix(system, "B!")) == len(system) + 1


def test_tools_stand_before_everything() -> None:
    """Engines read them first: with other tools nothing is shared."""
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 300}}]
    other = [{"type": "function", "function": {"name": "g", "description": "x" * 300}}]
    said = "a" * 1000
    assert shared(prefix(said, tools=tools), prefix(said, tools=other)) == 0
    assert shared(prefix(said, tools=tools), prefix(said, tools=tools)) > len(said)


def test_a_picture_ends_what_is_known() -> None:
    """Two pictures are not one, so that nothing from the first on has a name; its tokens count as text."""
    before = {"role": "user", "content": "a" * 600}
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}
    found = prefix_of(read_content("chat", {"messages": [before, picture, before]}), 1)
    assert found is not None
    assert found.ends_bytes == (256, 512, 601)
    assert found.size_bytes > 3 * 601
    assert prefix_of(read_content("chat", {"messages": [picture, before]}), 1) is None


def test_what_cannot_be_read_goes_by_its_session() -> None:
    """Half of a prompt of token numbers, or of pictures, is taken for what the session has sent before."""
    numbers = read_content("completions", {"prompt": list(range(500))})
    one, again, other = (prefix_of(numbers, 1, session=session) for session in (7, 7, 8))
    assert one is not None
    assert other is not None
    assert one == again
    assert one.names != other.names
    assert foreseen_tokens(one, 1, 500) == pytest.approx(250)
    assert prefix_of(numbers, 1) is None
    said = read_content("chat", {"messages": [{"role": "user", "content": "a" * 600}]})
    assert prefix_of(said, 1, session=7) == prefix_of(said, 1)


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        ("embeddings", {"input": "a" * 1000}),
        ("completions", {"prompt": ["a" * 1000, "b" * 1000]}),
        ("chat", {"messages": []}),
        ("chat", {"messages": [{"role": "user", "content": "a" * (BLOCK_BYTES - 2)}]}),
        ("completions", {"prompt": [1, 2, 3]}),
    ],
)
def test_what_has_no_names(api: str, fields: dict[str, Any]) -> None:
    """What is not generated from, batches, what is too short for a block, and token numbers."""
    assert prefix_of(read_content(api, fields), 1) is None


def test_ends_rise() -> None:
    """Each block is at least one block long."""
    assert all(later - earlier >= BLOCK_BYTES for earlier, later in pairwise(FINE_ENDS))


def test_tokens_are_a_share_of_the_prompts_own() -> None:
    """A beginning has as many of the prompt's tokens as of its bytes."""
    assert foreseen_tokens(Prefix((1, 2), (256, 512), 1024), 2, 300) == 150


def test_a_backend_that_caches_nothing_stops_attracting() -> None:
    """Three answers without a cached token and a quarter is left; ten more and hardly anything."""
    shares = CacheShares()
    assert shares.share("b") == 1.0
    for _ in range(3):
        shares.learn("b", 2000, 0)
    assert shares.share("b") == pytest.approx(0.25, abs=0.05)
    for _ in range(20):
        shares.learn("b", 2000, 0)
    assert shares.share("b") < 0.04
    for _ in range(40):
        shares.learn("b", 2000, 2000)
    assert shares.share("b") > 0.8


def test_engines_that_hold_their_answers_attract_more_but_not_without_end() -> None:
    """More may be cached than the table knows."""
    shares = CacheShares()
    for _ in range(50):
        shares.learn("b", 1000, 1200)
    assert shares.share("b") == pytest.approx(1.2, abs=0.02)
    for _ in range(50):
        shares.learn("b", 10, 1000)
    assert shares.share("b") == MOST_SHARE


def test_nothing_is_learned_from_nothing_foreseen() -> None:
    """What an engine had read for others says nothing of the table."""
    shares = CacheShares()
    shares.learn("b", 0.0, 500)
    assert shares.to_state() == {}


@given(st.lists(st.tuples(st.floats(0, 1e7), st.floats(0, 1e7))))
def test_shares_stay_within_bounds_and_survive_a_restart(answers: list[tuple[float, float]]) -> None:
    """Whatever is reported, a share is from 0 to the most, and comes back from JSON as it was."""
    shares = CacheShares()
    for foreseen, reported in answers:
        shares.learn("b", foreseen, reported)
    assert 0.0 <= shares.share("b") <= MOST_SHARE
    again = CacheShares.from_state(orjson.loads(orjson.dumps(shares.to_state())))
    assert again.share("b") == shares.share("b")


@pytest.mark.parametrize(
    "state", [None, [], {"b": 1}, {"b": [1]}, {"b": [1, 0]}, {"b": [-1, 1]}, {"b": ["1", "1"]}, {"b": [1e999, 1]}]
)
def test_a_state_that_makes_no_sense_is_left_out(state: object) -> None:
    """What can't be sums is no opinion."""
    assert CacheShares.from_state(state).share("b") == 1.0
