"""The report of `bench.counts`: text out of values; nothing is measured."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.report import table

LEARNED_AFTER = 200
LIMIT = 0.10
_STEP = 100


@dataclass(frozen=True)
class Served:
    """What came of one engine with one template."""

    name: str
    answered: int
    exact: int
    tokens: int
    longest_tokens: int
    refusals: Mapping[str, int]
    traits: Mapping[str, int]
    """Answered conversations by trait."""
    wrong_traits: Mapping[str, int]
    """Those of them that were counted wrong."""
    differences: Mapping[int, int]
    """Wrong counts by expected less reported."""


@dataclass(frozen=True)
class Learned:
    """What came of a model without a tokenizer."""

    errors: Sequence[float]
    """Expected by reported, less 1, in the order asked."""
    tokens: int
    refusals: Mapping[str, int]
    by_trait: Mapping[str, tuple[int, float]]
    """Requests after the first 200 and their median error without its sign, by trait."""


@dataclass(frozen=True)
class Vocabulary:
    """One vocabulary over all texts."""

    name: str
    source: str
    texts: int
    same: int
    tokens: int


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


def report(
    counts: Sequence[Served], gemma: Learned, texts: Sequence[Vocabulary], about: Mapping[str, str], command: str
) -> str:
    """The report's text."""
    return "\n".join(
        (
            "# Prompt tokens: what is expected, and what engines report\n",
            f"Taken {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `python -m bench.counts {command}` with all peers.\n",
            table(("machine", ""), list(about.items())),
            "## Targets\n",
            table(("what", "to reach", "measured", ""), _targets(counts, gemma, texts)),
            *_exactly(counts),
            DIFFERENCES,
            *_learned(gemma),
            VOCABULARIES,
            table(
                ("vocabulary", "reference", "texts", "same tokens", "tokens"),
                [(one.name, one.source, f"{one.texts:,}", f"{one.same:,}", f"{one.tokens:,}") for one in texts],
            ),
        )
    )


def _targets(counts: Sequence[Served], gemma: Learned, texts: Sequence[Vocabulary]) -> list[Sequence[str]]:
    rows = [(f"{one.name}: exact", "all", _share(one.exact, one.answered), one.exact == one.answered) for one in counts]
    late = [abs(error) for error in gemma.errors[LEARNED_AFTER:]]
    if late:
        median = statistics.median(late)
        what = f"Gemma on llama.cpp, no tokenizer: median error after {LEARNED_AFTER} requests"
        rows.append((what, f"<= {LIMIT:.0%}", f"{median:.1%}", median <= LIMIT))
    rows += [(f"{one.name}: same tokens", "all", _share(one.same, one.texts), one.same == one.texts) for one in texts]
    return [(*row, "met" if met else "**missed**") for *row, met in rows]


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def _exactly(counts: Sequence[Served]) -> list[str]:
    if not counts:
        return ["## With the model's tokenizer\n\nvLLM was not asked for.\n"]
    heads = ("engine and template", "answered", "exact", "off by", "tokens", "longest prompt", "refused")
    rows = [
        (
            one.name,
            f"{one.answered:,}",
            f"{one.exact:,}",
            _counted(one.differences),
            f"{one.tokens:,}",
            f"{one.longest_tokens:,}",
            _counted(one.refusals),
        )
        for one in counts
    ]
    traits = sorted({trait for one in counts for trait in one.traits})
    by_trait = [(trait, *(_wrong(one, trait) for one in counts)) for trait in traits]
    return [EXACTLY, table(heads, rows), BY_TRAIT, table(("trait", *(one.name for one in counts)), by_trait)]


def _counted(numbers: Mapping[str, int] | Mapping[int, int]) -> str:
    ranked = Counter(dict(numbers.items())).most_common(5)
    return ", ".join(f"{key} ({count} x)" for key, count in ranked) or "-"


def _wrong(one: Served, trait: str) -> str:
    return f"{one.wrong_traits.get(trait, 0)} of {one.traits.get(trait, 0)}"


def _learned(gemma: Learned) -> list[str]:
    rows = []
    for start in range(0, len(gemma.errors), _STEP):
        errors = gemma.errors[start : start + _STEP]
        sizes = [abs(error) for error in errors]
        figures = (statistics.median(sizes), quantile(sizes, 0.9), max(sizes))
        bias = f"{statistics.median(errors):+.1%}"
        rows.append((f"{start + 1} to {start + len(errors)}", *(f"{figure:.1%}" for figure in figures), bias))
    traits = [(trait, f"{count}", f"{median:.1%}") for trait, (count, median) in gemma.by_trait.items()]
    return [
        LEARNED.format(number=len(gemma.errors), tokens=gemma.tokens, refused=_counted(gemma.refusals)),
        table(("requests", "median error", "9 of 10 below", "greatest", "median with its sign"), rows),
        f"By trait, after the first {LEARNED_AFTER}:\n",
        table(("trait", "requests", "median error"), traits),
    ]


EXACTLY = """\
## With the model's tokenizer

A small Llama with a byte-level vocabulary on a real vLLM, behind `gpubalancer serve`, which is told its
`tokenizer.json`; `expected_prompt_tokens` and `prompt_tokens` of the access log. The model's own template reads a role
and a text; the two beside it write tools, calls, names, reasoning and results (`calls`), and go through parts
(`parts`). Conversations that the engine refused as longer than its context are drawn anew.
"""
BY_TRAIT = """\
Wrong counts by what is special about the conversation:
"""
DIFFERENCES = """\
Where counts differed, or would have, and what became of it. *Seen*: in runs before this one. *Read*: in the sources of
vLLM and Hugging Face, and mended before a run could show it; how many counts it would have spoilt is not known.

| what | how known | cause | now |
| --- | --- | --- | --- |
| names, calls of tools, reasoning | seen | counted as content, written by the template or not | fields of their own |
| role `developer` | seen | vLLM makes it `system`, and all system messages one | so do we |
| empty parts | seen | joined by newlines, where vLLM leaves them out | left out |
| JSON of tools and arguments | read | written without blanks, numbers in another form | as `tojson` writes it |
| tools without a description or parameters | read | vLLM writes `null` for what is not given | so do we |
| arguments of calls | read | given as text, where vLLM gives objects | objects |
| templates that loop over parts | read | were given one text | given parts |
| templates with `{% generation %}` | read | the statement is not Jinja's own | taken |
| Dynamo's frontend | seen | joins empty parts too, and puts reasoning and calls elsewhere | **differs** |
| Anthropic's API and Responses on vLLM | read | calls and results become chat messages there | **not measured** |
"""
LEARNED = """\
## Without a tokenizer

Gemma 3 (270 million parameters) on llama.cpp, behind the same balancer, which knows nothing of its vocabulary or its
template and learns from each answer: {number:,} conversations one after another, {tokens:,} tokens; refused: {refused}.
They are short, for the sake of time, and have system, user and assistant only: the server ignores tools for it.
"""
VOCABULARIES = """\
## Vocabularies that come with the balancer

The texts of the tests and every text of the conversations above, token by token. (The template around them is what
`tests/brain/tokens` compares.)
"""
