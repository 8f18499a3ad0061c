"""Measured energy, shared among requests by the time that their tokens take."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.telemetry.energy import GAP_S, IDLE_FRACTION, MOST_RATIO, Drawn, EnergyMeter


def drawn(at_s: float, joules: float | None, worked_s: float = 0.0, ours: float = 0.0, **more: float) -> Drawn:
    """A reading of a card that draws 400 W at most."""
    return Drawn(at_s, more.get("watts", 400.0), joules, worked_s, ours, more.get("everybody", ours))


def test_what_an_idle_card_draws_is_nobodys() -> None:
    """Ten seconds at 70 W for nobody are 700 J idle; a busy second after that has 70 J of it."""
    meter = EnergyMeter()
    for at_s in range(11):
        meter.read(drawn(at_s, 70.0 * at_s))
    assert meter.idle_joules == pytest.approx(700.0)
    assert math.isnan(meter.active_watts)
    meter.read(drawn(11, 700.0 + 370.0, worked_s=1.0, ours=1))
    assert meter.idle_joules == pytest.approx(770.0)
    assert meter.active_watts == pytest.approx(300.0)


def test_requests_share_what_was_drawn_for_them_by_their_time() -> None:
    """Two that took half a second each of one second's 300 J pay 150 J each."""
    meter = EnergyMeter()
    meter.read(drawn(0, 0.0))
    meter.read(drawn(1, 70.0))
    meter.read(drawn(2, 440.0, worked_s=1.0, ours=2))
    assert meter.active_watts * 0.5 == pytest.approx(150.0)


def test_others_pay_for_theirs() -> None:
    """Of a card that serves three requests, one of which is ours, a third is ours."""
    meter = EnergyMeter()
    meter.read(drawn(0, 0.0, ours=1, everybody=3))
    meter.read(drawn(1, 300.0, worked_s=0.5, ours=1, everybody=3))
    assert meter.active_watts * 0.5 == pytest.approx(300.0 * (1 - IDLE_FRACTION) / 3)


def test_power_serves_where_there_is_no_counter() -> None:
    """The mean of two readings, for the time between them."""
    meter = EnergyMeter()
    meter.read(drawn(0, None, watts=100.0))
    meter.read(drawn(2, None, watts=50.0))
    assert meter.idle_joules == pytest.approx(150.0)
    meter.read(Drawn(3, None, None, 0.0, 0.0, 0.0))
    assert meter.idle_joules == pytest.approx(150.0)


def test_a_counter_that_began_anew_and_a_gap_say_nothing_of_between() -> None:
    """A driver that was loaded anew is read by its power; after a long silence nothing is assumed."""
    meter = EnergyMeter()
    meter.read(drawn(0, 5_000.0, watts=100.0))
    meter.read(drawn(1, 10.0, watts=100.0))
    assert meter.idle_joules == pytest.approx(100.0)
    meter.read(drawn(2 + GAP_S, 100_000.0))
    assert meter.idle_joules == pytest.approx(100.0)


def test_what_has_not_ended_yet_is_not_charged_to_the_first_that_ends() -> None:
    """A minute of many requests of which one has ended is no measure: twice the highest power is the most."""
    meter = EnergyMeter()
    for at_s in range(60):
        meter.read(drawn(at_s, 400.0 * at_s, ours=50))
    meter.read(drawn(60, 24_000.0, worked_s=0.3, ours=49))
    assert meter.active_watts == MOST_RATIO * 400.0


@given(st.lists(st.tuples(st.floats(0, 1.0), st.floats(70, 700)), min_size=150, max_size=200))
def test_in_the_long_run_what_is_charged_is_what_was_drawn(seconds: list[tuple[float, float]]) -> None:
    """Whatever is drawn and done in each second: idle and charged together are the measured energy, to a third."""
    meter, joules, worked_s, charged = EnergyMeter(), 0.0, 0.0, 0.0
    meter.read(drawn(0, 0.0, ours=1))
    for at_s, (done_s, watts) in enumerate(seconds, start=1):
        # A card that draws more has done more.
        done_s = 0.2 + 0.8 * done_s
        joules, worked_s = joules + watts, worked_s + done_s
        meter.read(drawn(at_s, joules, worked_s=worked_s, ours=1, watts=watts))
        charged += meter.active_watts * done_s
    assert charged + meter.idle_joules == pytest.approx(joules, rel=0.33)


@given(st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(0, 1e6), st.floats(0, 1e4), st.floats(0, 99))))
def test_no_reading_makes_nonsense(readings: list[tuple[float, float | None, float, float]]) -> None:
    """Clocks that stand, counters that fall, workers that die: power stays within bounds and idle never falls."""
    meter, before = EnergyMeter(), 0.0
    for at_s, joules, worked_s, ours in readings:
        meter.read(drawn(at_s, joules, worked_s=worked_s, ours=ours))
        assert meter.idle_joules >= before
        before = meter.idle_joules
        assert math.isnan(meter.active_watts) or 0.0 <= meter.active_watts <= MOST_RATIO * 400.0
