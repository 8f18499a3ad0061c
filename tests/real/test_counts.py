"""Expected prompt tokens, in the access log, are what real engines report: `bench.counts` in small."""

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.conversations import Conversation, conversations
from bench.counts import through
from tests.e2e.processes import Balancer, serving
from tests.real.conftest import Fleet

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def balancer(fleet: Fleet, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    """A balancer that knows the tokenizer of `tiny` and nothing of `gemma`."""
    models = {"tiny": {"tokenizer": str(model_folder / "tokenizer.json")}}
    with serving(tmp_path_factory.mktemp("counts"), fleet.backends(), models=models) as started:
        yield started


def told_alike(conversation: Conversation) -> bool:
    """True if Dynamo's frontend makes turns of messages as vLLM does.

    It has its own way with reasoning, with calls (and refuses tools that vLLM takes), and with parts that are empty.
    """
    contents = [message["content"] for message in conversation.body["messages"] if "content" in message]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return not conversation.traits & {"reasoning", "calls of tools", "tools"} and all(part["text"] for part in parts)


def test_with_the_models_tokenizer(balancer: Balancer) -> None:
    """A hundred varied conversations are counted exactly."""
    asked = [one for one in conversations(250, 5, most_bytes=6000) if told_alike(one)][:100]
    found = through(balancer, "tiny", asked, at_once=4)
    assert len(found) == 100
    assert [(one.refusal, one.expected - one.reported) for one in found if not one.exact] == []


def test_without_a_tokenizer(balancer: Balancer) -> None:
    """After 40 conversations the next 20 are estimated within 10 % at the median."""
    found = through(balancer, "gemma", conversations(60, 5, most_bytes=400, strict=True), at_once=1)
    assert not [one.refusal for one in found if one.refusal]
    assert statistics.median(abs(one.expected / one.reported - 1) for one in found[40:]) < 0.10
