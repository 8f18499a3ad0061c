"""A request's text, understood on the loop, in a thread or in another process with the same result."""

import asyncio
from typing import Any

import orjson
import pytest

from gpubalancer.brain.document import Document
from gpubalancer.brain.experience import Experience
from gpubalancer.brain.insight import build_insight
from gpubalancer.brain.routes import Route, find_route
from gpubalancer.domain.errors import RequestError
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.proxy.study import Study

CARD = "4111 1111 1111 1111"
POLICY = Policy.model_validate(
    {
        "backends": [{"url": "http://127.0.0.1:9", "models": ["m", "n"], "labels": {"zone": "z"}}],
        "models": {"m": {"tokenizer": "cl100k_base"}},
        "sensitivity": {"detectors": {"payment_card": "confidential"}},
        "routing": {
            "rules": [{"name": "long", "when": {"prompt_tokens": "> 1000"}, "require": {"labels": {"zone": "z"}}}]
        },
    }
)


def chat_route() -> Route:
    """The route of chat."""
    route = find_route("/v1/chat/completions")
    assert route is not None
    return route


def understood(content: Any, model: str = "m", salt: int | None = None) -> tuple[Work, Document]:
    """The work of a chat with this content."""
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": content}]})

    async def run() -> tuple[Work, Document]:
        study = Study(Experience(), lambda: 0.0, salt)
        try:
            document = await study.read([body], chat_route(), POLICY, POLICY.tenants[0])
            made = Work("chat", model, 0, streamed=False, deadline_s=float("inf"), tenant=POLICY.tenants[0].name)
            insight = build_insight(POLICY, 1, None)
            tenant = POLICY.tenants[0]
            await study.understand(made, document, insight, tenant, POLICY, {}, route=chat_route(), unread=False)
            return made, document
        finally:
            await study.close()

    return asyncio.run(run())


def test_a_small_request_is_counted_scanned_and_ruled() -> None:
    """Everything that its text decides is in the work."""
    made, _ = understood(f"pay with {CARD}")
    assert made.counted
    assert (made.tier, made.tier_source) == (2, "detector:payment_card")
    assert made.prompt_tokens > 10
    assert made.output_tokens > 0
    assert made.rules == ()


def test_a_large_request_is_understood_as_a_small_one() -> None:
    """In the other process, counts are as exact, findings as sharp and rules the same."""
    made, document = understood("word " * 120_000 + CARD)
    assert document.understood is not None
    assert made.counted
    assert made.prompt_tokens == pytest.approx(120_020, abs=30)
    assert made.tier_source == "detector:payment_card"
    assert made.rules == ("long",)


def test_a_long_text_is_understood_as_a_short_one() -> None:
    """In the thread, too."""
    made, document = understood("word " * 30_000 + CARD)
    assert document.understood is None
    assert made.prompt_tokens == pytest.approx(30_020, abs=30)
    assert made.tier_source == "detector:payment_card"


def test_a_model_without_a_tokenizer_is_estimated() -> None:
    """The estimate is near, and known to be one."""
    made, _ = understood("word " * 2000, model="n")
    assert not made.counted
    assert 1000 < made.prompt_tokens < 5000


def test_a_text_made_for_the_detectors_is_understood_as_well() -> None:
    """One full of what they must look at goes on to the other process, and is found to be what it is."""
    made, document = understood("4111 1111 1111 1112; " * 5000 + f"pay {CARD}")
    assert document.understood is None
    assert made.tier_source == "detector:payment_card"


def test_a_large_request_of_a_model_without_a_tokenizer_is_estimated() -> None:
    """It is measured in the other process, and estimated here by what was learned."""
    made, _ = understood("word " * 120_000, model="n")
    assert not made.counted
    assert 60_000 < made.prompt_tokens < 300_000


def test_a_bad_body_is_refused_the_same_wherever_it_is_read() -> None:
    """An error made in the other process is the client's answer."""

    async def run(body: bytes) -> str:
        study = Study(Experience(), lambda: 0.0)
        try:
            with pytest.raises(RequestError) as caught:
                await study.read([body], chat_route(), POLICY, POLICY.tenants[0])
            return caught.value.code
        finally:
            await study.close()

    assert asyncio.run(run(b"{" + b" " * 400_000)) == asyncio.run(run(b"{")) == "invalid_json"


@pytest.mark.parametrize("words", [100, 120_000])
def test_beginnings_have_names_where_there_is_a_table(words: int) -> None:
    """On the loop and in a thread alike, by the table's salt; without a table nothing is hashed."""
    one, other, without = (understood("word " * words, salt=salt)[0].prefix for salt in (1, 2, None))
    assert without is None
    assert one is not None
    assert other is not None
    assert one.size_bytes == other.size_bytes == 5 * words + 1
    assert not set(one.names) & set(other.names)
