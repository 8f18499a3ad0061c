"""A decision for people, from the JSON that programs get: the request in a line or two, the table, the verdict.

Seconds have milliseconds, as what is smaller decides nothing. The choice stands first, then who else could have been
taken, the cheapest above, then who was dropped. A term that is nothing anywhere has no column, and a backend that could
never serve the request has no numbers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

DROPPED: Mapping[str, str] = {
    "claim": "does not claim the path",
    "api": "does not speak the API",
    "model": "does not serve the model",
    "clearance": "not cleared for the tier",
    "tenant": "not of the tenant's kinds or labels",
    "rule": "kept out by a rule",
    "context": "the prompt is too long for the model",
    "down": "down",
    "draining": "draining",
    "tried": "has failed this request",
    "slots": "full",
    "slo": "might not keep the SLO",
}
"""What the reasons mean, in the table's last column."""

Shown = Mapping[str, Any]


def render(shown: Shown) -> str:
    """The text for what `explain --json` prints."""
    rows = sorted(shown["backends"], key=lambda row: _place(row, shown["choice"]))
    terms = [term for term in _terms(rows) if any(row["terms"].get(term) for row in rows)]
    heads = ["backend", *terms, *(["total", "TTFT", "TPOT", "(seconds)"] if terms else [""])]
    table = [heads, *(_cells(row, terms, shown["choice"]) for row in rows)]
    if any(row.get("cached_tokens") for row in rows):
        table = [[line[0], cached, *line[1:]] for line, cached in zip(table, _cached(rows), strict=True)]
    notes = [f"Note: {note}." for note in shown.get("notes", ())]
    parts = [_request(shown["work"]), _aligned(table), [_verdict(shown), f"Policy {shown['policy']}.", *notes]]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _place(row: Shown, choice: str | None) -> tuple[bool, bool, float]:
    total_s = row["total_s"]
    return row["name"] != choice, row["dropped"] is not None, math.inf if total_s is None else total_s


def _terms(rows: Sequence[Shown]) -> list[str]:
    return next((list(row["terms"]) for row in rows if row["terms"]), [])


def _request(work: Shown) -> list[str]:
    prompt = f"{work['prompt_tokens']:,} prompt tokens ({'counted' if work.get('counted') else 'estimated'})"
    output, most = f"an answer of about {work['output_tokens']:,}", work["output_tokens_high"]
    if most > work["output_tokens"]:
        output += f", hardly above {most:,}"
    stream = "a stream" if work["streamed"] else "no stream"
    lines = [
        f"{work['api']} with {work['model'] or 'no model named'}, for {work['tenant']}: {prompt}, {output}, {stream}",
        f"tier {work['tier']} (by {work['tier_source']}), {work['priority']}",
    ]
    found = [f"{detector} {count}" for detector, count in work["findings"].items()]
    for what, told in (("found", found), ("risk", [work["risk"]] if work["risk"] else []), ("rules", work["rules"])):
        if told:
            lines[1] += f"; {what}: {', '.join(told)}"
    return lines


def _cells(row: Shown, terms: Sequence[str], choice: str | None) -> list[str]:
    dropped = row["dropped"]
    if row["terms"]:
        numbers = [row["terms"][term] for term in terms] + [row["total_s"], row["ttft_s"], row["tpot_s"]]
        cells = [f"{number:,.3f}" for number in numbers]
    else:
        cells = [""] * (len(terms) + 3 if terms else 0)
    verdict = "<- chosen" if row["name"] == choice else DROPPED.get(dropped, dropped) if dropped else ""
    return [row["name"], *cells, verdict]


def _cached(rows: Sequence[Shown]) -> list[str]:
    """The column of what each backend has read before."""
    return ["cached tokens", *(f"{row['cached_tokens']:,}" if row["terms"] else "" for row in rows)]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells: names and reasons to the left, numbers to the right."""
    last = len(table[0]) - 1
    widths = [max(len(line[column]) for line in table) for column in range(last)]
    lines = []
    for line in table:
        numbers = [cell.rjust(width) for cell, width in zip(line[1:last], widths[1:], strict=True)]
        lines.append("  ".join([line[0].ljust(widths[0]), *numbers, line[last]]).rstrip())
    return lines


def _verdict(shown: Shown) -> str:
    choice, reason = shown["choice"], shown["reason"]
    if choice is None:
        return f"No backend: {reason}."
    margin_s, is_by_cost = shown["margin_s"], reason == "the least cost"
    if margin_s is None:
        margin = ""
    elif round(abs(margin_s), 3) == 0:
        margin = "; another costs as much"
    elif margin_s < 0 and is_by_cost:
        margin = f"; another costs {-margin_s:.3f} s less, which counts as equal: the least used goes first"
    else:
        margin = f"; the next costs {abs(margin_s):.3f} s {'more' if margin_s > 0 else 'less'}"
    return f"{choice}: {reason}{margin}."
