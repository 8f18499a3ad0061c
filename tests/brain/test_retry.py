"""The table of retries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.brain.retry import AfterSend, Attempted, backoff_s, may_retry

WORDS: list[AfterSend] = ["never", "reused-connection", "always"]
ATTEMPTS = st.builds(Attempted, st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans())


def attempted(
    *, connected: bool = True, reused: bool = False, silent: bool = True, timed_out: bool = False, spent: bool = False
) -> Attempted:
    """A failed attempt: by default one that was sent on a fresh connection and got no byte back."""
    return Attempted(connected, reused, silent, timed_out, spent)


@pytest.mark.parametrize("word", WORDS)
def test_what_was_never_sent_is_tried_again(word: AfterSend) -> None:
    """A connection that failed carried nothing: another backend may be tried under every setting."""
    assert may_retry(attempted(connected=False), word)
    assert may_retry(attempted(connected=False, timed_out=True), word)


@pytest.mark.parametrize(
    ("failed", "never", "stale", "always"),
    [
        (attempted(), False, False, True),
        (attempted(reused=True), False, True, True),
        (attempted(reused=True, silent=False), False, False, False),
        (attempted(silent=False), False, False, False),
        (attempted(timed_out=True), False, False, False),
        (attempted(reused=True, timed_out=True), False, False, False),
        (attempted(reused=True, spent=True), False, False, False),
    ],
)
def test_after_sending_the_policy_decides(failed: Attempted, never: bool, stale: bool, always: bool) -> None:
    """Only a silent connection counts, and only as far as `after_send` goes."""
    assert [may_retry(failed, word) for word in WORDS] == [never, stale, always]


@given(ATTEMPTS, st.sampled_from(WORDS))
def test_nothing_is_sent_twice_once_it_was_answered_or_spent(failed: Attempted, word: AfterSend) -> None:
    """No setting allows another try after a byte of an answer, a timeout, or part of a body that is gone."""
    if failed.connected and (not failed.silent or failed.timed_out or failed.body_spent):
        assert not may_retry(failed, word)


@given(ATTEMPTS)
def test_settings_are_ordered(failed: Attempted) -> None:
    """A bolder setting allows whatever a more careful one does."""
    allowed = [may_retry(failed, word) for word in WORDS]
    assert allowed == sorted(allowed)


def test_backoff_doubles() -> None:
    """Each failed try doubles the wait."""
    assert [backoff_s(attempt, 0.1, 0.5) for attempt in (1, 2, 3)] == pytest.approx([0.1, 0.2, 0.4])


@given(st.integers(1, 8), st.floats(0, 1))
def test_jitter_stays_within_half(attempt: int, jitter: float) -> None:
    """The wait lies between half and one and a half of its mean."""
    mean_s = 0.05 * 2 ** (attempt - 1)
    assert 0.5 * mean_s <= backoff_s(attempt, 0.05, jitter) <= 1.5 * mean_s * 1.000001
