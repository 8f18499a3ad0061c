"""Conversations are counted exactly by a model's own template."""

import random
import re
import sys
import time
from pathlib import Path

import orjson
import pytest
from tokenizers import Tokenizer as Engine

from gpubalancer.brain.content import heavy, read_content
from gpubalancer.brain.tokens.chat_template import ChatTemplate
from gpubalancer.brain.tokens.counting import Counting
from gpubalancer.brain.tokens.huggingface import load_file
from gpubalancer.brain.tokens.tokenizer import TokenizerError
from tests.brain.tokens.texts import TEXTS
from tests.brain.tokens.tiny import TEMPLATE, tiny

jinja2 = pytest.importorskip("jinja2")
CHAT = read_content("chat", {"messages": [{"role": "user", "content": "hi"}]})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with its template."""
    return tiny(tmp_path_factory.mktemp("tiny"))


def conversations(count: int) -> list[list[dict[str, str]]]:
    """Conversations of all kinds of texts, with special tokens and blanks where they hurt."""
    rng = random.Random(3)
    texts = [text[:1500] for text in TEXTS.values()] + ["\n\n\n x", " ", "a<|im_end|>\n b <s>", "<|im_start|>"]
    roles = ("system", "user", "assistant")
    return [
        [{"role": rng.choice(roles), "content": rng.choice(texts)} for _ in range(rng.randint(1, 6))]
        for _ in range(count)
    ]


def test_conversations_count_exactly(path: Path) -> None:
    """300 conversations have the tokens of the rendered prompt, the ones with special tokens in their texts too."""
    engine, counting = Engine.from_file(str(path)), Counting(load_file(path), 1)
    template = jinja2.Template(TEMPLATE, keep_trailing_newline=True)
    for messages in conversations(300):
        prompt = template.render(messages=messages, bos_token="<s>", add_generation_prompt=True)
        plan = counting.plan(read_content("chat", {"messages": messages}))
        assert plan.finish(plan.count_rest()) == len(engine.encode(prompt, add_special_tokens=False).ids)


def test_a_tokenizer_whose_parts_do_not_add_up(tmp_path: Path) -> None:
    """Where each text would get a blank in front, the prompt is counted as one."""
    path = tiny(tmp_path, first_blank=True)
    engine, counting = Engine.from_file(str(path)), Counting(load_file(path), 1)
    (segment,) = load_file(path).template.render(CHAT).segments
    assert segment == "<s><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    plan = counting.plan(CHAT)
    assert plan.finish(plan.count_rest()) == len(engine.encode(segment, add_special_tokens=False).ids)


def test_a_template_of_its_own_file(path: Path, tmp_path: Path) -> None:
    """`chat_template.jinja` comes before the settings."""
    for file in path.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    assert list(load_file(tmp_path / "tokenizer.json").template.render(CHAT).segments) == ["hi!"]


def test_segments() -> None:
    """The text is cut at special tokens, which are counted, and nothing empty is left."""
    template = ChatTemplate(TEMPLATE, {"bos_token": "<s>"}, re.compile(r"<s>|<\|im_start\|>|<\|im_end\|>"))
    rendered = template.render(CHAT)
    assert list(rendered.segments) == ["user\nhi", "\n", "assistant\n"]
    assert rendered.tokens == 4


def test_what_templates_are_given() -> None:
    """Tools as JSON, a date that is not the clock's, loop controls, and names of special tokens."""
    source = (
        "{% for m in messages %}{% break %}{% endfor %}{{ tools | tojson(indent=2) }}{{ strftime_now('%d') }}{{ bos }}"
    )
    content = read_content("chat", {"messages": [{"role": "user", "content": "hi"}], "tools": [{"a": 1}]})
    (text,) = ChatTemplate(source, {"bos": "<s>"}, None).render(content).segments
    assert text == '[\n  {\n    "a": 1\n  }\n]26 Jul 2024<s>'


def test_json_as_hugging_face_writes_it() -> None:
    """Blanks behind commas and colons, numbers as Python has them, letters as they are."""
    tool = {"type": "x", "a": [1, 1.5e-7, None, "\u4e2d<"]}
    content = read_content("chat", {"messages": [], "tools": [tool]})
    rendered = ChatTemplate("{{ tools | tojson }}", {}, None).render(content)
    assert rendered.segments == ['[{"type": "x", "a": [1, 1.5e-07, null, "\u4e2d<"]}]']


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", False),
        ("{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}", True),
        ("{% for m in messages %}{% for c in m['content'][1:] %}{% endfor %}{% endfor %}", True),
        ("{% set content = messages[0]['content'] %}{% for c in content | list %}{% endfor %}", True),
        ("{% for m in messages %}{% for c in m['tool_calls'] %}{% endfor %}{% endfor %}", False),
    ],
)
def test_templates_that_want_parts(source: str, parts: bool) -> None:
    """A loop over a message's content shows it."""
    told = "{{ 'text' if messages[0].content is string else 'parts' }}"
    (text,) = ChatTemplate("{%- set m = messages[0] %}" + source + "|" + told, {}, None).render(CHAT).segments
    assert text.rpartition("|")[2] == ("parts" if parts else "text")


def test_many_tools_do_not_hold_the_loop(tmp_path: Path) -> None:
    """As many as a body on the event loop can hold are rendered and counted in less than 5 ms."""
    counting = Counting(load_file(tiny(tmp_path, "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}")), 1)
    body = orjson.dumps({"messages": [], "tools": [{"function": {}}] * 650})
    assert not heavy(body)
    best_s = 1.0
    for _ in range(5):
        start_s = time.thread_time()
        counting.plan(read_content("chat", orjson.loads(body)))
        best_s = min(best_s, time.thread_time() - start_s)
    assert best_s < 0.005


def test_what_is_marked_as_generated() -> None:
    """The statement that marks answers writes nothing, and its signs for blanks hold."""
    source = "a {%- generation -%} {{ messages[0].content }} {%- endgeneration %} b"
    assert list(ChatTemplate(source, {}, None).render(CHAT).segments) == ["ahi b"]


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ nothing.nested }}",
        "{{ messages[7].content }}",
        "{{ 1 + 'a' }}",
        "{{ 1 / 0 }}",
        "{{ messages.__class__.__mro__ }}",
        "{% macro deeper() %}{{ deeper() }}{% endmacro %}{{ deeper() }}",
    ],
)
def test_a_template_that_fails_on_a_conversation(source: str) -> None:
    """It is counted by the plain rule."""
    rendered = ChatTemplate(source, {}, None).render(CHAT)
    assert list(rendered.segments) == ["hi"]
    assert rendered.tokens == 7


def test_broken_templates() -> None:
    """A template that does not compile is an operator's mistake."""
    with pytest.raises(TokenizerError, match="broken"):
        ChatTemplate("{% for %}", {}, None)


def test_without_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that is missing is named."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(TokenizerError, match="jinja2"):
        ChatTemplate("", {}, None)
