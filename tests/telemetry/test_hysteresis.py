"""Up and down: what it takes to change the verdict."""

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.telemetry.hysteresis import DOWN_AFTER, UP_AFTER, Health

UP = Health().probed(True, 10.0)


def after(health: Health, observations: str) -> Health:
    """The health after probes that answered (`+`) or failed (`-`) and workers that could not connect (`w`)."""
    for at_s, what in enumerate(observations, start=20):
        health = health.connect_failed(at_s) if what == "w" else health.probed(what == "+", at_s)
    return health


def test_one_success_is_enough_at_the_start() -> None:
    """A backend that was never up is up after its first answer, also when earlier probes failed."""
    assert not Health().up
    assert Health(up=True, since_s=10.0, proven=True, reachable=True) == UP
    assert after(Health(), "-----+").up


def test_one_failure_changes_nothing() -> None:
    """A single failed probe, or a worker's single failure, leaves a backend up."""
    assert after(UP, "-").up
    assert after(UP, "w").up
    assert after(UP, "-+-+-+w+w").up


def test_two_failures_in_a_row_take_it_down() -> None:
    """The second failed probe in a row changes the verdict and its time."""
    down = after(UP, "--")
    assert not down.up
    assert down.since_s == 21
    assert after(UP, "---").since_s == 21


def test_a_workers_failure_and_a_probes_are_two() -> None:
    """A report and a failed probe take a backend down in either order."""
    assert not after(UP, "w-").up
    assert not after(UP, "-w").up


def test_any_number_of_reports_is_one_failure() -> None:
    """Reports alone never take a backend down."""
    assert after(UP, "w" * 50).up
    assert not after(UP, "w" * 50 + "-").up


def test_coming_back_takes_two_successes_in_a_row() -> None:
    """A backend that went down is up after two answers without a failure between."""
    down = after(UP, "--")
    assert not after(down, "+").up
    assert not after(down, "+-+").up
    assert not after(down, "+w+").up
    back = after(down, "++")
    assert back.up
    assert back.since_s == 21


@given(st.text("+-w", max_size=40))
def test_the_verdict_follows_the_last_observations(observations: str) -> None:
    """After enough equal probes the verdict is theirs, whatever came before."""
    assert after(Health(), observations + "+" * UP_AFTER).up
    assert not after(Health(), observations + "-" * DOWN_AFTER).up


@given(st.text("+-w", max_size=40))
def test_a_change_of_verdict_is_dated(observations: str) -> None:
    """`since_s` changes exactly when `up` does."""
    health = UP
    for at_s, what in enumerate(observations, start=20):
        before, health = health, health.connect_failed(at_s) if what == "w" else health.probed(what == "+", at_s)
        assert (health.since_s == at_s) == (health.up != before.up)


def test_who_takes_a_connection_is_reachable() -> None:
    """As of the last probe, up or down."""
    assert UP.reachable
    assert UP.probed(False, 11.0).reachable
    assert not UP.probed(False, 11.0, reachable=False).reachable
    assert UP.probed(False, 11.0, reachable=False).probed(True, 12.0).reachable
