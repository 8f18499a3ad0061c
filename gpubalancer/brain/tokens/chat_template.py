"""A model's own chat template, rendered as the engine does, and cut at the special tokens.

Templates are Jinja2 and come with the model, so they run in Jinja's sandbox. They get the settings and the functions
that Hugging Face's `apply_chat_template` gives them. A message whose content has parts is given as one text, joined by
newlines, as vLLM does for templates that expect texts. The date that some templates write is a fixed one: a decision
reads no clock, and all dates have about as many tokens.

A template that fails on a conversation (many refuse an unusual order of roles) makes the engine fail too; here the
conversation is then counted by the plain rule.
"""

import importlib
import re
from typing import Any

import orjson

from gpubalancer.brain.content import Content
from gpubalancer.brain.tokens.templates import PLAIN, spoken
from gpubalancer.brain.tokens.tokenizer import Rendered, TokenizerError

_DATE = "26 Jul 2024"
_TEMPLATE_FAULTS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What a template can do wrong with a conversation, beside Jinja's own errors."""


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
        try:
            self._template = environment.from_string(source)
        except jinja.TemplateError as error:
            raise TokenizerError(f"the chat template is broken: {error}") from None

    def render(self, content: Content) -> Rendered:
        """The conversation with the header of the answer at its end."""
        messages = [{"role": message.role, "content": spoken(message)} for message in content.messages]
        tools = [orjson.loads(tool) for tool in content.tools] or None
        try:
            text: str = self._template.render(messages=messages, tools=tools, add_generation_prompt=True)
        except self._faults:
            return PLAIN.render(content)
        if self._separator is None:
            return Rendered([text], 0)
        parts = self._separator.split(text)
        return Rendered([part for part in parts if part], len(parts) - 1)


def _to_json(value: object, indent: int | None = None, **_options: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode()


def _raise(message: str) -> None:
    raise ValueError(message)
