"""The choice of a backend: hard constraints, then admission, then the least cost.

1. Constraints leave the candidates: backends that may serve the request and are fit to, with or without a free slot.
2. Each candidate's cost is worked out (`cost`), and with it TTFT and TPOT.
3. Of those with a free slot that keep the SLO, the one of least cost is taken, in `frugal` mode the one of least money.
   Costs within 3 % are equal: then the least share of slots in use decides, then chance.
4. Where none does, one that is about as quick as the fleet can be serves, or an idle one; else the request waits
   (`hold`), or is refused if by now even the best backend, idle, would be too late (`hopeless`).

The same inputs and the same state of `random` give the same choice.
"""

from random import Random

from gpubalancer.brain.admission import limits, retry_after_s
from gpubalancer.brain.columns import equals
from gpubalancer.brain.constraints import reasons
from gpubalancer.brain.fleet import Flags, Fleet
from gpubalancer.brain.live import Live as Live
from gpubalancer.brain.method import Method, method_of
from gpubalancer.brain.verdict import Choice
from gpubalancer.brain.weighed import Weighed
from gpubalancer.brain.weighing import weigh_all
from gpubalancer.domain.work import Work
from gpubalancer.policy.routing import Routing, Slo


def choose(
    fleet: Fleet,
    work: Work,
    live: Live,
    tried: Flags | None,
    random: Random,
    method: Method | None = None,
    waited_s: float = 0.0,
) -> Choice:
    """Choose a backend.

    Arguments:
        fleet: what the policy fixes.
        work: the request.
        live: what is so now.
        tried: backends that have failed this request, None before the first try.
        random: decides between equals.
        method: None takes all backends for equals, without prices and SLO.
        waited_s: how long the request has waited here.
    """
    method = method or method_of(Routing(), equals(fleet))
    weighed = weigh_all(fleet, work, live, tried, method)
    if weighed is None:
        return Choice(None, tuple(reasons(fleet, work, live, tried)))
    if method.slo is None:
        return _choice(weighed, weighed.pick(None, method.frugal, random)) or Choice(None, wait="hold")
    place = weighed.pick(limits(method.slo, work, waited_s), method.frugal, random)
    return _choice(weighed, place) or _choose_late(weighed, method.slo, work, method.frugal, random, waited_s)


def _choose_late(weighed: Weighed, slo: Slo, work: Work, is_frugal: bool, random: Random, waited_s: float) -> Choice:
    """What is done with a request for which nobody keeps the SLO."""
    best_ttft_s, best_tpot_s = weighed.idle_best()
    bounds = limits(slo, work, waited_s, best_ttft_s, best_tpot_s)
    choice = _choice(weighed, weighed.pick(bounds, is_frugal, random)) or _choice(weighed, weighed.pick_idle(random))
    if choice is not None:
        return choice
    if best_ttft_s > bounds.ttft_s:
        return Choice(None, wait="hopeless", retry_after_s=retry_after_s(weighed.least_ttft_s(), bounds))
    return Choice(None, wait="hold")


def _choice(weighed: Weighed, place: int | None) -> Choice | None:
    if place is None:
        return None
    forecast = weighed.forecast(place)
    return Choice(forecast.backend, forecast=forecast)
