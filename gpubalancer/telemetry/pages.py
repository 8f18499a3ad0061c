"""A fast reader of Prometheus' text format, for the few names that are wanted out of a page of hundreds.

It never looks at the rest: each name is searched for at the start of a line, by `bytes.find`, which skips most of the
page unread. Only the lines found are taken apart. Sets of labels come again with every scrape, so they are read once.

It is forgiving, as pages come from many programs. Comments, exemplars and timestamps are passed over; a line that is
no sample is left out; of a series that comes twice the last counts; a last line without its end is not believed, for
it may have been cut within the number. What the numbers mean, and whether they can be true, is the caller's business.

https://prometheus.io/docs/instrumenting/exposition_formats/ and the OpenMetrics specification.
"""

import contextlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

PAGE_BYTES = 4 << 20
"""Longer pages are read up to here only. vLLM's page has 52 KB, Dynamo's frontend 80 KB."""
LINE_BYTES = 8 << 10
"""Longer lines are left out. vLLM's longest, the description of its cache, has 1.2 KB."""
SERIES_LIMIT = 1024
"""Series of one name: more than GPUs of a host, models of a server or ranks of an engine."""

Labels = Mapping[str, str]
Samples = list[tuple[Labels, float]]

_SAMPLE = re.compile(rb'(?:\{((?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+)\})?[ \t]+([^ \t_]+)(?:[ \t].*)?\r?')
_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]++|\\.)*+)"')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n"}
"""All others stand for themselves."""


class Page:
    """One page. A name is looked for when it is first asked for.

    A name is what stands before the labels: of a counter with `_total`, of a histogram with `_sum` or `_count`.
    """

    __slots__ = ("_found", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = b"\n" + text[:PAGE_BYTES]
        self._found: dict[str, Samples] = {}

    def samples(self, name: str) -> Samples:
        """The samples of a name, in the page's order; none if it is not there."""
        found = self._found.get(name)
        if found is None:
            series = _series(self._text, b"\n" + name.encode())
            found = self._found[name] = [(labels_of(labels), value) for labels, value in series.items()]
        return found

    def has(self, beginning: bytes) -> bool:
        """Whether a line begins like this."""
        return b"\n" + beginning in self._text


def parse(text: bytes, names: Iterable[str]) -> dict[str, Samples]:
    """The samples of these names on a page. A name that is not there has no entry."""
    page = Page(text)
    return {name: samples for name in names if (samples := page.samples(name))}


def _series(page: bytes, needle: bytes) -> dict[bytes, float]:
    series: dict[bytes, float] = {}
    at = page.find(needle)
    while at >= 0 and len(series) < SERIES_LIMIT:
        start = at + len(needle)
        end = page.find(b"\n", start)
        if end < 0:
            break
        match = _SAMPLE.fullmatch(page, start, end) if end - start <= LINE_BYTES else None
        if match:
            labels, text = match.groups()
            with contextlib.suppress(ValueError):  # no number: the line is no sample
                series[labels or b""] = float(text)
        at = page.find(needle, end)
    return series


@lru_cache(maxsize=2048)
def labels_of(text: bytes) -> Labels:
    """What stands between the braces, as a mapping that nobody may change."""
    return {
        name.decode(): _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), value.decode(errors="replace"))
        for name, value in _LABEL.findall(text)
    }
