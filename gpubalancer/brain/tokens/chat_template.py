"""A model's own chat template, rendered as the engine does, and cut at the special tokens.

Templates are Jinja2 and come with the model, so they run in Jinja's sandbox. They get the settings and the functions
that Hugging Face's `apply_chat_template` gives them, and turns as vLLM makes them of messages
(`tokens/template_turns.py`). The date that some templates write is a fixed one: a decision reads no clock, and all
dates have about as many tokens.

A template that fails on a conversation (many refuse an unusual order of roles) makes the engine fail too; here the
conversation is then counted by the plain rule.
"""

import importlib
import json
import re
from typing import Any

from gpubalancer.brain.content import Content
from gpubalancer.brain.tokens.template_turns import Form, tools_of, turns_of
from gpubalancer.brain.tokens.templates import PLAIN
from gpubalancer.brain.tokens.tokenizer import Rendered, TokenizerError

_DATE = "26 Jul 2024"
_TEMPLATE_FAULTS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a template can do wrong with a conversation, beside Jinja's own errors."""
_GENERATION = re.compile(r"(\{%-?\s*)(end)?generation(\s*-?%\})")
"""Hugging Face's own statement, which marks the answers to train on and writes nothing."""


class ChatTemplate:
    """One template, compiled.

    Arguments:
        source: Jinja2 text.
        names: special tokens by the names that templates use (`bos_token`).
        separator: matches any special token; None to count what is rendered as one text.

    Raises:
        TokenizerError: Jinja2 is not installed, or the template is broken.
    """

    def __init__(self, source: str, names: dict[str, str], separator: re.Pattern[str] | None) -> None:
        try:
            jinja, sandbox = importlib.import_module("jinja2"), importlib.import_module("jinja2.sandbox")
        except ImportError:
            raise TokenizerError("a chat template needs the package jinja2, which is not installed") from None
        environment = sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals.update(names, raise_exception=_raise, strftime_now=lambda _form: _DATE)
        self._faults = (jinja.TemplateError, *_TEMPLATE_FAULTS)
        self._separator = separator
        source = _GENERATION.sub(lambda found: f"{found[1]}{'endif' if found[2] else 'if true'}{found[3]}", source)
        try:
            self._template = environment.from_string(source)
            self._form = Form(_goes_through_content(jinja.nodes, environment.parse(source)), "developer" in source)
        except jinja.TemplateError as error:
            raise TokenizerError(f"the chat template is broken: {error}") from None

    def render(self, content: Content) -> Rendered:
        """The conversation with the header of the answer at its end."""
        try:
            turns, tools = turns_of(content.messages, self._form), tools_of(content.tools)
            text: str = self._template.render(messages=turns, tools=tools, add_generation_prompt=True)
        except self._faults:
            return PLAIN.render(content)
        if self._separator is None:
            return Rendered([text], 0)
        parts = self._separator.split(text)
        return Rendered([part for part in parts if part], len(parts) - 1)


def _goes_through_content(nodes: Any, tree: Any) -> bool:
    """True if a template has a loop over a message's content, by that name: then vLLM gives it parts, else a text."""

    def is_content(node: Any) -> bool:
        if isinstance(node, nodes.Filter | nodes.Test):
            return is_content(node.node)
        if isinstance(node, nodes.Getattr):
            return bool(node.attr == "content")
        if isinstance(node, nodes.Getitem):
            return is_content(node.node) if isinstance(node.arg, nodes.Slice) else _constant(node.arg) == "content"
        return isinstance(node, nodes.Name) and node.name == "content"

    return any(is_content(loop.iter) for loop in tree.find_all(nodes.For))


def _constant(node: Any) -> object:
    return getattr(node, "value", None)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise ValueError(message)
