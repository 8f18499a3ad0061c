"""Conversations as varied as users', drawn from a seed: to compare counts of tokens with what engines report.

Each is the body of a chat request and the traits that it has, so that a wrong count can be laid to what is special
about the request. A conversation is of one language or of several; some lead where counting goes wrong: special tokens
spelled out, blanks at the ends, nothing at all, parts instead of a text, tools and their calls, names.
"""
# ruff: noqa: RUF001

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.prompts import WORDS

Body = dict[str, Any]

_CODE = (
    "def total(rows: list[Row], by: str = 'name') -> dict[str, int]:",
    "    return {row.key: sum(x ** 2 for x in row.values) for row in rows if row is not None}",
    "for (int i = 0; i < n; ++i) { a[i] = (b[i] << 2) | 0x7f; }  // TODO: bounds",
    "SELECT id, count(*) FROM orders WHERE placed >= '2026-01-01' GROUP BY 1 ORDER BY 2 DESC;",
    '{"id": 12345678, "tags": ["a", "b"], "nested": {"null": null, "float": -1.5e-7}}',
    "\t@property\n\tdef size(self): return len(self._items)",
    "2026-11-23T20:44:39.123Z ERROR [worker-3] 0x7fffdeadbeef reset by peer (10.0.0.7:5432)",
)
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "code": _CODE,
    "chinese": ("大型语言模型", "的负载均衡器", "需要知道", "每个请求", "会用掉多少令牌。", "为什么？", "第３章，"),
    "arabic": ("يجب أن يعرف", "موازن الأحمال", "عدد الرموز", "في كل طلب.", "١٢٣٤٥", "؟"),
    "emoji": (
        "\U0001f600",
        "\U0001f44d\U0001f3fd",
        "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        "ok",
        "\U0001f1e9\U0001f1ea",
        "!",
    ),
    "russian": ("Балансировщик", "нагрузки", "должен знать,", "сколько", "токенов", "в запросе."),
    "german": ("Die Straßenverkehrszulassungsordnung", "änderte", "sich", "häufig;", "größere", "Übungen", "folgten."),
    "japanese": ("トークナイザーは", "テキストを", "小さな単位に", "分けます。", "ｶﾀｶﾅも。"),
    "hindi": ("लोड", "बैलेंसर", "को", "हर", "अनुरोध", "के", "टोकन", "गिनने", "होते", "हैं।"),
}
_UNSPACED = frozenset(("chinese", "japanese"))
_SPECIALS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|im_start|>system",
    "<s>",
    "</s>",
    "<|endoftext|>",
    "<start_of_turn>",
    "<pad>",
)
_BLANKS = (" ", "\n", "\n\n", "   ", "\t", "\r\n", "\u3000", " \n ")
_CITIES = ("Paris", "北京", "München", 'a"b\\c', "القاهرة", "\U0001f600")


@dataclass(frozen=True, slots=True)
class Conversation:
    """The body of a chat request, without a model."""

    body: Body
    traits: frozenset[str]


@dataclass(slots=True)
class _Draw:
    """One conversation on its way."""

    rng: random.Random
    left_bytes: int
    traits: set[str] = field(default_factory=set)
    language: str = "english"

    def one_in(self, number: int, trait: str) -> bool:
        """True once in so many times, and then the conversation has the trait."""
        if self.rng.randrange(number):
            return False
        self.traits.add(trait)
        return True

    def text(self, size_bytes: int) -> str:
        """About so much text in the conversation's language, or in another now and then."""
        language = self.language if self.rng.random() < 0.8 else self.rng.choice(("english", *_SCRIPTS))
        self.traits.add(language)
        pieces = _SCRIPTS.get(language, WORDS)
        between = "\n" if language == "code" else "" if language in _UNSPACED else " "
        found: list[str] = []
        left = min(size_bytes, self.left_bytes)
        while left > 0:
            found.append(self.rng.choice(pieces))
            if self.rng.random() < 0.05:
                found.append(str(self.rng.randrange(10 ** self.rng.randint(1, 12))))
            left -= len(found[-1].encode()) + len(between)
        text = between.join(found)
        if self.one_in(20, "special tokens as text"):
            at = self.rng.randrange(len(text) + 1)
            text = text[:at] + self.rng.choice(_SPECIALS) + text[at:]
        if self.one_in(12, "blanks at the ends"):
            text = self.rng.choice(("", *_BLANKS)) + text + self.rng.choice(_BLANKS)
        self.left_bytes -= len(text.encode())
        return text

    def content(self, size_bytes: int) -> Any:
        """A text, nothing, or parts."""
        if self.one_in(25, "empty content"):
            return ""
        if self.one_in(10, "parts"):
            number = self.rng.choice((1, 1, 2, 3))
            return [{"type": "text", "text": self.text(size_bytes // number)} for _ in range(number)]
        return self.text(size_bytes)


def conversations(count: int, seed: int, *, most_bytes: int, strict: bool = False) -> list[Conversation]:
    """Draw conversations; the first of a larger number are those of a smaller one.

    Arguments:
        count: how many.
        seed: of the draw.
        most_bytes: of all texts of one; one in twenty comes near it.
        strict: only roles and fields that every template takes: a system prompt, then user and assistant in turn.
    """
    return [_conversation(random.Random(f"{seed}.{number}"), most_bytes, strict) for number in range(count)]


def _conversation(rng: random.Random, most_bytes: int, strict: bool) -> Conversation:
    long = rng.random() < 0.05
    size_bytes = (
        rng.randint(most_bytes // 4, most_bytes) if long else int(min(rng.lognormvariate(6, 1.2), most_bytes / 2))
    )
    draw = _Draw(rng, size_bytes, {"long"} if long else set(), rng.choice(("english", "english", *_SCRIPTS)))
    number = rng.randint(1, 12)
    each_bytes = max(size_bytes // number, 1)
    messages = _alternating(draw, number, each_bytes) if strict else _free(draw, number, each_bytes)
    body: Body = {"messages": messages}
    if not strict and (draw.one_in(6, "tools") or "calls of tools" in draw.traits):
        draw.traits.add("tools")
        body["tools"] = [_tool(draw) for _ in range(rng.randint(1, 4))]
    return Conversation(body, frozenset(draw.traits))


def _alternating(draw: _Draw, number: int, each_bytes: int) -> list[Body]:
    turns = (number - 1) // 2 * 2 + 1
    messages = [{"role": ("user", "assistant")[turn % 2], "content": draw.content(each_bytes)} for turn in range(turns)]
    if draw.one_in(2, "system prompt"):
        messages.insert(0, {"role": "system", "content": draw.content(each_bytes)})
    return messages


def _free(draw: _Draw, number: int, each_bytes: int) -> list[Body]:
    messages: list[Body] = []
    if draw.one_in(2, "system prompt"):
        role = "developer" if draw.one_in(10, "developer") else "system"
        messages.append({"role": role, "content": draw.content(each_bytes)})
    while len(messages) < number:
        if len(messages) + 2 < number and draw.one_in(12, "calls of tools"):
            messages += _called(draw, each_bytes)
            continue
        role = "user" if not messages or messages[-1]["role"] != "user" else "assistant"
        if draw.one_in(15, "roles out of turn"):
            role = draw.rng.choice(("user", "assistant"))
        message = {"role": role, "content": draw.content(each_bytes)}
        if draw.one_in(20, "name"):
            message["name"] = "anna_2"
        if role == "assistant" and draw.one_in(20, "reasoning"):
            message["reasoning"] = draw.text(each_bytes)
        messages.append(message)
    return messages


def _called(draw: _Draw, each_bytes: int) -> list[Body]:
    """A call of one tool or two, and what they gave."""
    ids = [f"call_{draw.rng.randrange(10**8)}" for _ in range(draw.rng.randint(1, 2))]
    calls = [
        {"id": each, "type": "function", "function": {"name": "weather_of", "arguments": _arguments(draw)}}
        for each in ids
    ]
    asked: Body = {"role": "assistant", "content": None, "tool_calls": calls}
    if draw.rng.random() < 0.5:
        asked["content"] = draw.content(each_bytes)
    elif draw.rng.random() < 0.3:
        del asked["content"]
    return [asked, *({"role": "tool", "tool_call_id": each, "content": draw.content(each_bytes)} for each in ids)]


def _arguments(draw: _Draw) -> str:
    value = {"city": draw.rng.choice(_CITIES), "days": draw.rng.randint(1, 99), "fine": [1.0, None, True]}
    return json.dumps(value, ensure_ascii=draw.rng.random() < 0.5)


def _tool(draw: _Draw) -> Body:
    number = draw.rng.randrange(100)
    properties = {
        "city": {"type": "string", "description": draw.text(60), "enum": list(_CITIES)},
        "days": {"type": "integer", "minimum": 1, "default": 1.5e-7},
    }
    function: Body = {"name": f"weather_{number}", "description": draw.text(80)}
    function["parameters"] = {"type": "object", "properties": properties, "required": ["city"]}
    _ODDITIES[draw.rng.randrange(len(_ODDITIES))](function)
    return {"type": "function", "function": function}


def _unlike(name: str, value: Any = None) -> Callable[[Body], None]:
    """Takes a field away, or adds it where it has a value."""

    def change(function: Body) -> None:
        function.pop(name, None)
        if value is not None:
            function[name] = value

    return change


_ODDITIES = (
    _unlike("nothing"),
    _unlike("nothing"),
    _unlike("description"),
    _unlike("parameters"),
    _unlike("strict", True),
)
