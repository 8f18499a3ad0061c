"""What a request is charged in money and energy: tokens by their price, the machine by the time it works for them.

The machine's time is that of the decision (`cost`: prompts are read alone, a step is shared by its batch), with the
tokens that were written in the place of those that were expected. Before a backend is chosen, a reservation is made for
the dearest that the request may go to, where it would be alone: no other can cost more by its price.
"""

from typing import Any, NamedTuple

import numpy as np

from gpubalancer.brain.budget import token_nano_usd
from gpubalancer.brain.columns import Column, Economy
from gpubalancer.brain.cost import prefill_s, step_s
from gpubalancer.brain.fleet import Flags
from gpubalancer.brain.weighed import Forecast
from gpubalancer.domain.budget import SCALE
from gpubalancer.policy.backends import Price

HOUR_S = 3600.0


class Rates(NamedTuple):
    """What one backend charges one request.

    Attributes:
        price: of the backend.
        watts: as measured, else under load by its class, 0 if not known.
        read_s: of the machine's time for the prompt.
        token_s: for each token of the answer.
    """

    price: Price
    watts: float
    read_s: float
    token_s: float

    def usd(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """USD for what a request took."""
        nano_usd = token_nano_usd(self.price.usd_per_million_tokens, prompt_tokens, cached_tokens, completion_tokens)
        return nano_usd / SCALE["usd"] + self.price.usd_per_hour / HOUR_S * self.used_s(completion_tokens)

    def used_s(self, completion_tokens: int) -> float:
        """Seconds of the machine's time."""
        return self.read_s + completion_tokens * self.token_s

    def joules(self, completion_tokens: int) -> float:
        """Its share of the machine's energy."""
        return self.watts * self.used_s(completion_tokens)

    @property
    def token_usd(self) -> float:
        """USD for one more token of the answer."""
        return self.price.usd_per_million_tokens.completion / 1e6 + self.price.usd_per_hour / HOUR_S * self.token_s

    @property
    def token_joules(self) -> float:
        """Joules for one more token of the answer."""
        return self.watts * self.token_s


def rates_of(price: Price, watts: float, forecast: Forecast | None, output_tokens: int) -> Rates:
    """What a backend charges a request that was sent there.

    Arguments:
        price: of the backend.
        watts: likewise.
        forecast: what was expected of the request there; without one the machine's time is not known, and not charged.
        output_tokens: the answer's length that the forecast was made for.
    """
    if forecast is None:
        return Rates(price, watts, 0.0, 0.0)
    load, weight = forecast.load, forecast.weight
    decode_s = weight.decode_s / (load.batch + 1.0) / load.speed_fraction
    token_s = decode_s / output_tokens if output_tokens else 0.0
    return Rates(price, watts, max(0.0, weight.used_s - decode_s), token_s)


def dearest(economy: Economy[Column], eligible: Flags, prompt_tokens: int, output_tokens: int) -> tuple[float, float]:
    """The most USD and joules that a request will be charged on any of these backends; 0 where there is none."""
    if not eligible.any():
        return 0.0, 0.0
    usd = usd_alone(economy, prompt_tokens, output_tokens)
    joules = economy.watts * _alone_s(economy, prompt_tokens, output_tokens)
    return float(usd[eligible].max()), float(joules[eligible].max())


def usd_alone(economy: Economy[Column], prompt_tokens: int, output_tokens: int) -> Column:
    """USD for a request on each backend, if it were alone there; shape (backends,)."""
    usd: Column = (
        economy.usd_per_prompt_token * prompt_tokens
        + economy.usd_per_completion_token * output_tokens
        + economy.usd_per_s * _alone_s(economy, prompt_tokens, output_tokens)
    )
    return usd


def _alone_s(economy: Economy[Column], prompt_tokens: int, output_tokens: int) -> Any:
    prompts = np.full(economy.slots.shape, float(prompt_tokens))
    return prefill_s(economy, prompts) + output_tokens * step_s(economy, 1.0, prompts)
