"""What a policy's fleet costs, as far as is known: prices and priors of the policy, speeds as they were measured."""

from collections.abc import Mapping

import numpy as np

from gpubalancer.brain.columns import Measured, build_economy, measured
from gpubalancer.brain.fleet import Flags, Fleet
from gpubalancer.brain.method import method_of
from gpubalancer.policy.schema import Policy


class Judge:
    """How a generation chooses. `method` is made anew when something was learned; a choice takes it whole.

    Attributes:
        fleet: the backends.
        tiers: names, low to high.
        method: costs, SLO and weights, as `brain.choose` wants them.
        watts: power of each backend under load, 0 where it is not known.
        remembers_s: the age at which it is forgotten who has read a prompt's beginning.
        fades_s: the age at which an engine's or a sensor's word counts for 37 %.
    """

    def __init__(self, policy: Policy, fleet: Fleet) -> None:
        self.fleet = fleet
        self.tiers = tuple(tier.name for tier in policy.tiers)
        self.fades_s = policy.telemetry.stale_after_s
        self.remembers_s = int(policy.routing.prefixes.forget_after_s)
        self._economy = build_economy(policy, fleet)
        self._routing = policy.routing
        self.method = method_of(policy.routing, self._economy)
        self.watts = self._economy.watts

    def learn(self, found: Mapping[str, Measured]) -> None:
        """Reckon with what was measured of some backends, by name; all others are taken for what the policy says."""
        known = {index: found[name] for index, name in enumerate(self.fleet.names) if name in found}
        if known:
            self.method = method_of(self._routing, measured(self._economy, known))

    def barred_by(self, newest: "Judge", tier: int) -> Flags | None:
        """Which backends a newer policy does not clear for a tier of ours, or does not know any more; None for itself.

        A request keeps the policy that it began with, but not a clearance that was taken away while it waited.
        """
        if newest is self:
            return None
        name = self.tiers[tier]
        rank = newest.tiers.index(name) if name in newest.tiers else len(newest.tiers)
        cleared = newest.fleet.rows[newest.fleet.clearance >= rank]
        return ~np.isin(self.fleet.rows, cleared)
