"""What shall be different for some requests: `routing.rules`.

Rules are looked at in the file's order, and every one that matches applies. What one sets is what later ones see: its
tier, its priority, its model. `require` and `deny_kinds` add up, all of them hold; a tier is only ever raised; of two
priorities or models the later one stays. Numbers and times are read here into what is cheap to compare; `brain/rules`
makes the tests of them, `rule_checks` finds rules that could never do anything.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from gpubalancer.domain.backend import Kind
from gpubalancer.policy import units
from gpubalancer.policy.backends import Api
from gpubalancer.policy.fields import Labels, ModelName, Name, OneOrMany, Part, Reading, Title, number, text
from gpubalancer.policy.hours import Span
from gpubalancer.policy.tenants import Priority

CREDENTIALS = frozenset(("authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"))
"""Headers that no rule may look at: what a rule matches is shown to operators, and these are secrets."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_COMPARISON = re.compile(r"(<=|>=|<|>|=) ?([0-9].*)")
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A bound on a number, such as `< 2000`."""

    operator: str
    bound: int

    def holds(self, number: float) -> bool:
        """True if `number` is within the bound."""
        return _OPERATORS[self.operator](number, self.bound)

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest whole number within the bound; the first above the second if there is none."""
        least = 0 if "<" in self.operator else self.bound + (self.operator == ">")
        greatest = math.inf if ">" in self.operator else self.bound - (self.operator == "<")
        return least, greatest

    def __str__(self) -> str:
        return f"{self.operator} {self.bound}"


def span(bounds: Iterable[Comparison]) -> tuple[float, float]:
    """The least and the greatest whole number within all bounds; the first above the second if there is none."""
    spans = [bound.span for bound in bounds]
    return max((low for low, _ in spans), default=0), min((high for _, high in spans), default=math.inf)


def _read_comparison(value: object) -> Comparison:
    expected = 'a comparison in quotes such as "< 2000" or ">= 8k"'
    found = _COMPARISON.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(expected)
    try:
        return Comparison(found[1], units.count(found[2]))
    except ValueError:
        raise ValueError(expected) from None


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 (pydantic collects ValueError only)
    return value


def _read_field_name(value: object) -> str:
    if not isinstance(value, str) or not _FIELD_NAME.fullmatch(value):
        raise ValueError("the name of a header, such as x-team")
    if value.lower() in CREDENTIALS:
        raise ValueError("a header that holds no credential: choose by `tenant` instead")
    return value


def _is_field_value(value: str) -> bool:
    return 0 < len(value) <= 1024 and value.isprintable() and value == value.strip()


Bound = Annotated[Comparison, Reading('a comparison such as "< 2000"', _read_comparison, {"type": "string"}, str)]
Bounds = Annotated[tuple[Bound, ...], OneOrMany()]
Flag = Annotated[bool, Reading("true or false", _read_flag, {"type": "boolean"})]
FieldName = Annotated[str, Reading("the name of a header", _read_field_name, {"type": "string"})]
FieldValue = Annotated[str, text("the value of a header, in which * stands for any text", _is_field_value, "text")]


class When(Part):
    """Which requests a rule is for: all that is given must hold, of a list one, of a list of comparisons all."""

    api: Annotated[tuple[Api, ...], OneOrMany()] | None = Field(default=None, description="API that is called.")
    model: Annotated[tuple[ModelName, ...], OneOrMany()] | None = Field(
        default=None, description="Model, by its own name; not a request that names none."
    )
    tenant: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(default=None, description="Tenant that pays.")
    tier: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(
        default=None, description="Tier that the request has, with what earlier rules raised it to."
    )
    priority: Annotated[tuple[Priority, ...], OneOrMany()] | None = Field(
        default=None, description="Class in the queue, as earlier rules left it."
    )
    risk: Annotated[tuple[Literal["injection"], ...], OneOrMany()] | None = Field(
        default=None, description="Risk that was found."
    )
    prompt_tokens: Bounds | None = Field(
        default=None,
        description='Bound on the prompt\'s tokens, such as `"< 2000"`; of a list, all hold. 0 if no prompt is read.',
    )
    output_tokens: Bounds | None = Field(
        default=None, description='Bound on the tokens that are expected as the answer, such as `">= 500"`.'
    )
    stream: Flag | None = Field(default=None, description="Whether the answer is streamed.")
    header: dict[FieldName, Annotated[tuple[FieldValue, ...], OneOrMany()]] = Field(
        default={},
        description="Headers that the request has, by name in any case, each with its value: `*` stands for any text. "
        "Of a header sent twice the last value counts. No credentials.",
    )
    time: Annotated[tuple[Span, ...], OneOrMany()] | None = Field(
        default=None,
        description='Time of day, such as `"22:00-06:00"`, with days (on which it begins) and a time zone if need be: '
        '`"mon-fri 08:00-18:00 Europe/Berlin"`. UTC if none is named.',
    )


class Selector(Part):
    """Which backends: all that is given must hold, and of a list one. What is not known of a backend does not hold."""

    name: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(default=None, description="Backend, by its name.")
    kind: Annotated[tuple[Kind, ...], OneOrMany()] | None = Field(default=None, description="Kind of hardware.")
    engine: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(default=None, description="Engine.")
    hardware: Annotated[tuple[Name, ...], OneOrMany()] | None = Field(
        default=None, description="Class of hardware, as `backends[].hardware` says it."
    )
    labels: Labels = Field(default={}, description="Labels that the backend carries.")


class Preference(Selector):
    """Which backends are taken where they cost little more, and how much more."""

    worth_s: Annotated[float, number(above_zero=True)] = Field(
        default=1.0, alias="seconds", description="How many seconds more such a backend may cost."
    )


class Change(Part):
    """What a request is made."""

    priority: Priority | None = Field(default=None, description="Class in the queue that the requests get.")
    tier: Name | None = Field(
        default=None,
        description="Tier that the requests are raised to, never lowered. Above the tenant's `max_tier` they are "
        "refused.",
    )
    model: ModelName | None = Field(
        default=None,
        description="Model that answers instead, by its own name. Refused to a tenant that may not use it; where a "
        "request names no model, nothing changes.",
    )


class Rule(Part):
    """What shall be different for some requests."""

    name: Title = Field(description="Name of the rule, shown in explanations.")
    when: When = Field(default=When(), description="Which requests it is for; all, if nothing is given.")
    changes: Change = Field(
        default=Change(), alias="set", description="What the requests are made; later rules see it."
    )
    require: Selector | None = Field(default=None, description="Only such backends may serve them.")
    prefer: Preference | None = Field(default=None, description="Such backends are taken where they cost little more.")
    deny_kinds: tuple[Kind, ...] = Field(
        default=(), description="Kinds of backend that may not serve them, nor those whose kind is not known."
    )
