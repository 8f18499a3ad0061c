"""What is known of a model whichever backend serves it: `models`."""

from typing import Annotated

from pydantic import Field

from gpubalancer.policy.fields import ModelName, Name, Part, count, later


class Model(Part):
    """One model by its public name. A model that only a backend names needs no entry here."""

    tokenizer: Name | None = Field(
        default=None,
        description=later("Vocabulary that counts its prompts exactly; without one, tokens are estimated from bytes."),
    )
    context_tokens: Annotated[int, count(1)] | None = Field(
        default=None,
        description=later("Longest prompt and answer together; longer requests go elsewhere or are refused."),
    )
    aliases: tuple[ModelName, ...] = Field(default=(), description="Other names that clients may ask for it by.")
    downgrade_to: ModelName | None = Field(
        default=None,
        description=later("Cheaper model that answers instead when a budget with `when_spent: downgrade` is spent."),
    )
