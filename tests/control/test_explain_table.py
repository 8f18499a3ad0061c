"""A decision for people."""

from typing import Any

from gpubalancer.brain.cost import Terms
from gpubalancer.control.explain_table import DROPPED, render
from gpubalancer.domain.decision import Reason

WORK = {
    "api": "chat",
    "model": "llama",
    "tenant": "acme",
    "tier": "internal",
    "tier_source": "detector:iban",
    "priority": "batch",
    "prompt_tokens": 1234,
    "output_tokens": 100,
    "output_tokens_high": 300,
    "streamed": True,
    "risk": "injection",
    "findings": {"iban": 2},
    "rules": ["night"],
    "counted": True,
}


def row(name: str, total_s: float | None, dropped: str | None = None) -> dict[str, Any]:
    """One backend; without a total it has no terms."""
    terms = {} if total_s is None else {**dict.fromkeys(Terms._fields, 0.0), "prefill": total_s}
    return {
        "name": name, "dropped": dropped, "terms": terms, "total_s": total_s,
        "ttft_s": total_s, "tpot_s": None if total_s is None else 0.01,
    }  # fmt: skip


def shown(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The JSON of a decision for `a`."""
    answer = {"choice": "a", "reason": "the least cost", "work": WORK, "margin_s": None, "policy": "f00"}
    return {**answer, "backends": list(rows), **more}


def test_the_request_stands_above_the_table() -> None:
    """What was understood of it, and nothing of its text."""
    lines = render(shown(row("a", 1.0))).splitlines()
    assert lines[:3] == [
        "chat with llama, for acme: 1,234 prompt tokens (counted), an answer of about 100, hardly above 300, a stream",
        "tier internal (by detector:iban), batch; found: iban 2; risk: injection; rules: night",
        "",
    ]


def test_the_table() -> None:
    """The choice first, then the others by cost, then the dropped; columns of zeros are left out, numbers line up."""
    text = render(
        shown(
            row("never", None, "model"), row("full", 0.5, "slots"), row("long-name", 12.0), row("b", 2.0), row("a", 1.0)
        )
    )
    assert text.splitlines()[3:9] == [
        "backend    prefill   total    TTFT   TPOT  (seconds)",
        "a            1.000   1.000   1.000  0.010  <- chosen",
        "b            2.000   2.000   2.000  0.010",
        "long-name   12.000  12.000  12.000  0.010",
        "full         0.500   0.500   0.500  0.010  full",
        "never                                      does not serve the model",
    ]


def test_the_margin_in_words() -> None:
    """By how much it won, or why it was taken though another costs a little less."""

    def verdict(margin_s: float | None, reason: str = "the least cost") -> str:
        return render(shown(row("a", 1.0), row("b", 1.0), margin_s=margin_s, reason=reason)).splitlines()[-2]

    assert verdict(None) == "a: the least cost."
    assert verdict(0.5) == "a: the least cost; the next costs 0.500 s more."
    assert verdict(1e-9) == "a: the least cost; another costs as much."
    assert verdict(-0.01).endswith("another costs 0.010 s less, which counts as equal: the least used goes first.")
    assert verdict(-0.5, "the least money") == "a: the least money; the next costs 0.500 s less."


def test_nobody() -> None:
    """Where no backend is chosen, the reason says what becomes of the request; a table without numbers is narrow."""
    text = render(shown(row("b", None, "clearance"), row("c", None, "down"), choice=None, reason="no backend fits"))
    assert text.splitlines()[3:] == [
        "backend",
        "b        not cleared for the tier",
        "c        down",
        "",
        "No backend: no backend fits.",
        "Policy f00.",
    ]


def test_notes_come_last() -> None:
    """What was taken for granted."""
    assert render(shown(row("a", 1.0), notes=["all are up"])).endswith("\nNote: all are up.\n")


def test_every_reason_has_words() -> None:
    """The table knows each reason that a decision names, and the SLO."""
    assert set(DROPPED) == {*Reason.__args__, "slo"}  # type: ignore[attr-defined]  # of a Literal


def test_a_reason_that_is_not_known_here_is_shown_as_it_is() -> None:
    """A newer balancer may drop for reasons that this command has no words for."""
    assert "b        a new one" in render(shown(row("b", None, "a new one"), choice=None))


def test_an_answer_of_known_length() -> None:
    """Where nothing longer is expected, one number says it."""
    text = render(shown(row("a", 1.0), work=WORK | {"output_tokens_high": 100, "counted": False, "model": None}))
    assert text.startswith(
        "chat with no model named, for acme: 1,234 prompt tokens (estimated), an answer of about 100, a"
    )


def test_what_was_read_before_has_a_column_where_there_is_any() -> None:
    """Tokens of the prompt that need not be read again; without any the column is left out."""
    warm, cold, never = row("a", 1.0), row("b", 2.0), row("c", None, "model")
    warm["cached_tokens"], cold["cached_tokens"], never["cached_tokens"] = 1500, 0, 0
    assert render(shown(warm, cold, never)).splitlines()[3:7] == [
        "backend  cached tokens  prefill  total   TTFT   TPOT  (seconds)",
        "a                1,500    1.000  1.000  1.000  0.010  <- chosen",
        "b                    0    2.000  2.000  2.000  0.010",
        "c                                                     does not serve the model",
    ]
    warm["cached_tokens"] = 0
    assert "cached" not in render(shown(warm, cold, never))
