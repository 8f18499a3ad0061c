"""What has been learned of tokens: how many a text has, how long answers are, how many were cached.

It outlives requests and policies.

`expect` fills in what a request will need; `learn` is told what it took. What is learned is written down as JSON from
time to time (`to_state`), so that a restart forgets little.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gpubalancer.brain.content import Content
from gpubalancer.brain.learned import Extent, TextTokens, measure
from gpubalancer.brain.outputs import OutputLengths, kind_of
from gpubalancer.brain.prefix import CacheShares
from gpubalancer.brain.tokens.counting import Plan
from gpubalancer.domain.work import Work

Counted = tuple[int, ...] | Extent
"""Tokens of a plan's unread texts, or how much text they are where they can only be estimated."""


def count(plan: Plan) -> Counted:
    """Count what a plan has left open, or measure it. Changes nothing, so it may run in any thread."""
    if not plan.unread:
        return ()
    return plan.count_rest() if plan.counting is not None else measure(plan.texts)


class Basis(NamedTuple):
    """What an expectation rests on; kept with the request, to learn from how it ends."""

    api: str
    """Of the content, which may tell apart what one route serves (Ollama's embed), and with the effort asked for."""
    answers: int
    known_tokens: int
    extent: Extent | None
    """Of the texts whose tokens were estimated; None if all were counted."""


@dataclass(slots=True)
class Experience:
    """All that one process has learned."""

    ratios: TextTokens = field(default_factory=TextTokens)
    lengths: OutputLengths = field(default_factory=OutputLengths)
    cached: CacheShares = field(default_factory=CacheShares)

    def expect(self, work: Work, content: Content, plan: Plan, counted: Counted) -> Basis:
        """Fill in the work's tokens.

        Arguments:
            work: with its tenant and model.
            content: what was asked.
            plan: of the tokenizer for the model.
            counted: what `count` gave for the plan.
        """
        work.batch = max(1, content.answers, content.inputs)
        model, extent = work.model or "", counted if isinstance(counted, Extent) else None
        if isinstance(counted, Extent):
            work.prompt_tokens = plan.known_tokens + self.ratios.tokens(model, work.tenant, counted)
        else:
            work.prompt_tokens, work.counted = plan.finish(counted), True
        kind = kind_of(content.api, content.reasoning_effort)
        expected = self.lengths.expect(work.tenant, model, kind, content.max_tokens, content.answers)
        work.output_tokens, work.output_tokens_high = expected.median, expected.high
        return Basis(kind, content.answers, plan.known_tokens, extent)

    def learn(self, work: Work, basis: Basis, prompt_tokens: int, completion_tokens: int) -> None:
        """Take in what an engine reported of a request that ended well."""
        model = work.model or ""
        if basis.extent is not None:
            self.ratios.learn(model, work.tenant, basis.extent, prompt_tokens - basis.known_tokens)
        self.lengths.learn(work.tenant, model, basis.api, completion_tokens, basis.answers)

    def to_state(self) -> dict[str, Any]:
        """Everything learned, as JSON."""
        return {
            "text_tokens": self.ratios.to_state(),
            "output_lengths": self.lengths.to_state(),
            "cached_shares": self.cached.to_state(),
        }

    @classmethod
    def from_state(cls, state: object) -> "Experience":
        """What `to_state` gave; what makes no sense is left out."""
        if not isinstance(state, dict):
            return cls()
        return cls(
            TextTokens.from_state(state.get("text_tokens")),
            OutputLengths.from_state(state.get("output_lengths")),
            CacheShares.from_state(state.get("cached_shares")),
        )
