"""A tokenizer.json counts as its own library does."""

import json
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Engine

from gpubalancer.brain.content import read_content
from gpubalancer.brain.tokens.counting import Counting
from gpubalancer.brain.tokens.huggingface import load_file
from gpubalancer.brain.tokens.tokenizer import TokenizerError
from gpubalancer.brain.tokens.vocabularies import known, load
from tests.brain.tokens.texts import TEXTS
from tests.brain.tokens.tiny import tiny


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer without a chat template."""
    return tiny(tmp_path_factory.mktemp("tiny"), None)


def test_counts(path: Path) -> None:
    """Every text has the tokens that the library gives it, short or long."""
    engine, tokenizer = Engine.from_file(str(path)), load_file(path)
    for text in (*TEXTS.values(), "word " * 2000):
        assert tokenizer.count(text) == len(engine.encode(text, add_special_tokens=False).ids)
        assert tokenizer.count(text) == len(tokenizer.encode(text))


def test_by_name(path: Path) -> None:
    """A name that ends in .json is a path."""
    assert known(str(path))
    assert load(str(path)).name == str(path)


def test_a_prompt_has_the_special_tokens_of_its_engine(path: Path) -> None:
    """Completions' prompts get what the tokenizer puts in front of each."""
    engine, counting = Engine.from_file(str(path)), Counting(load_file(path), 1)
    plan = counting.plan(read_content("completions", {"prompt": ["one two", "three"]}))
    assert plan.known_tokens == sum(len(engine.encode(text).ids) for text in ("one two", "three"))


def test_without_a_template(path: Path) -> None:
    """A conversation is counted by the plain rule."""
    assert load_file(path).template.name == "plain"


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"model": 1}'])
def test_broken_files(tmp_path: Path, text: str | None) -> None:
    """What is no tokenizer is an operator's mistake, and says so."""
    file = tmp_path / "tokenizer.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_file(file)


def test_an_unknown_kind_of_model(path: Path, tmp_path: Path) -> None:
    """A file that only a later library understands is refused, not half read."""
    document = json.loads(path.read_text())
    document["model"]["type"] = "Novel"
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(document))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_file(file)


def test_broken_settings(path: Path, tmp_path: Path) -> None:
    """So are broken settings beside it."""
    file = tmp_path / "tokenizer.json"
    file.write_bytes(path.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
        load_file(file)


def test_without_the_library(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that is missing is named."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(TokenizerError, match=r"gpubalancer\[huggingface\]"):
        load_file(path)
