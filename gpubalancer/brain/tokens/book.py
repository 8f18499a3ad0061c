"""All models of a policy with their tokenizers: the one thing that a request's prompt is counted by.

A tokenizer that several models name is loaded once and has one cache. Loading takes up to half a second for each, so a
book is made before its policy is put in force, and takes over from the old one what both have.
"""

from collections.abc import Mapping

from gpubalancer.brain.content import Content
from gpubalancer.brain.tokens.counting import Counting, Plan, unknown_plan
from gpubalancer.brain.tokens.vocabularies import load


class TokenBook:
    """Counting for each model.

    Arguments:
        names: tokenizers' names by the models' public names.
        seed: a secret number of 64 bits, new for each process.
        earlier: the book before; its tokenizers and their caches are taken over, but files are read again.

    Raises:
        TokenizerError: a tokenizer can't be loaded.
    """

    def __init__(self, names: Mapping[str, str], seed: int, earlier: "TokenBook | None" = None) -> None:
        self._by_name: dict[str, Counting] = {}
        for name in dict.fromkeys(names.values()):
            kept = earlier._by_name.get(name) if earlier is not None and not name.endswith(".json") else None  # noqa: SLF001
            self._by_name[name] = kept or Counting(load(name), seed)
        self._by_model = {model: self._by_name[name] for model, name in names.items()}

    def __repr__(self) -> str:
        return f"TokenBook({self._by_model})"

    def counting(self, model: str | None) -> Counting | None:
        """What counts for a model, None if its tokenizer is not known."""
        return self._by_model.get(model) if model is not None else None

    def plan(self, content: Content, model: str | None) -> Plan:
        """What is known of the prompt's tokens at once, and what is still to be counted or estimated."""
        counting = self._by_model.get(model) if model is not None else None
        return counting.plan(content) if counting is not None else unknown_plan(content)
