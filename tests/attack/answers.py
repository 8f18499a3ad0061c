"""The same strict reading for what a client gets: RFC 9112 responses, with what is missing at the end told apart.

A client can trust an answer only if it can tell a whole one from one that broke off: `Answer.complete` is that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.attack.grammar import (
    Fields,
    Incomplete,
    NotCanonical,
    framing,
    head_lines,
    read_chunked,
    read_fields,
    values,
)

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [\t -~\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Answer:
    """One final answer, or the beginning of one; `interim` are the 1xx statuses that came before it."""

    status: int
    fields: Fields
    body: bytes
    complete: bool
    interim: tuple[int, ...] = ()

    def values(self, name: str) -> list[str]:
        """The values of every field of this name, in order."""
        return values(self.fields, name)


def read_answers(data: bytes, methods: Sequence[str], *, ended: bool) -> list[Answer]:
    """Read the answers on one connection.

    Arguments:
        data: every byte that the client got.
        methods: of the requests, in order; GET is assumed beyond them. Only HEAD and CONNECT matter.
        ended: the server has closed, so that nothing more comes.

    Raises:
        NotCanonical: the bytes are no strict HTTP/1.1 responses.
    """
    answers: list[Answer] = []
    interim: list[int] = []
    start = 0
    while start < len(data):
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        try:
            status, fields, body_start = _read_head(data, start)
        except Incomplete:
            answers.append(Answer(0, (), b"", complete=False, interim=tuple(interim)))
            break
        if status < 200 and status != 101:
            interim.append(status)
            start = body_start
            continue
        body, end = _read_body(data, body_start, fields, bodiless=method == "HEAD" or status in (101, 204, 304))
        closes = end is None and not values(fields, "content-length") and not values(fields, "transfer-encoding")
        answers.append(Answer(status, fields, body, end is not None or (closes and ended), tuple(interim)))
        if end is None:
            break
        start, interim = end, []
    return answers


def _read_head(data: bytes, start: int) -> tuple[int, Fields, int]:
    lines, body_start, whole = head_lines(data, start)
    if not lines:
        raise Incomplete
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise NotCanonical("status line", lines[0])
    fields = read_fields(lines[1:])
    if not whole:
        raise Incomplete
    return int(match[1]), fields, body_start


def _read_body(data: bytes, start: int, fields: Fields, *, bodiless: bool) -> tuple[bytes, int | None]:
    """The body so far, and where it ends; None while it does not, or where only the close will tell."""
    length_bytes = framing(fields, data[start : start + 40])
    if bodiless:
        return b"", start
    if length_bytes is None:
        try:
            return read_chunked(data, start)
        except Incomplete:
            return data[start:], None
    if values(fields, "content-length") and len(data) >= start + length_bytes:
        return data[start : start + length_bytes], start + length_bytes
    return data[start:], None
