"""What is known of a model whichever backend serves it: `models`."""

from typing import Annotated

from pydantic import Field

from gpubalancer.policy.fields import ModelName, Part, Title, count


class Model(Part):
    """One model by its public name. A model that only a backend names needs no entry here."""

    tokenizer: Title | None = Field(
        default=None,
        description="What counts its prompts exactly: a vocabulary such as `o200k_base`, `llama3` or `qwen3`, or the "
        "path of a Hugging Face `tokenizer.json`. Without one, tokens are estimated from bytes learned of its answers.",
    )
    context_tokens: Annotated[int, count(1)] | None = Field(
        default=None,
        description="Longest prompt and answer together. A counted prompt that leaves no room is refused.",
    )
    aliases: tuple[ModelName, ...] = Field(default=(), description="Other names that clients may ask for it by.")
    downgrade_to: ModelName | None = Field(
        default=None,
        description="Cheaper model that answers instead when a budget with `when_spent: downgrade` is spent.",
    )
