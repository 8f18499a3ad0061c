"""The file's layout: where columns lie, and which files are refused."""

import numpy as np
import pytest

from gpubalancer.board.layout import (
    BACKENDS_LEAST,
    CACHE_LINE_BYTES,
    COLUMNS,
    HEADER,
    MAGIC,
    PAGE_BYTES,
    ROWS_USED_BYTE,
    VERSION,
    WORKER_ROWS,
    Layout,
    read_header,
)


def header(
    magic: bytes = MAGIC,
    version: int = VERSION,
    limit: int = WORKER_ROWS,
    rows: int = 1024,
    workers: int = 2,
    rows_used: int = 2,
) -> bytes:
    """A header as `Board` writes it."""
    made = np.zeros(1, dtype=HEADER)
    made[0] = (magic, version, limit, rows, workers, rows_used, 1, 1)
    return made.tobytes()


@pytest.mark.parametrize("configured", [0, 1, 511, 513, 5000])
def test_columns_never_overlap_and_start_on_pages(configured: int) -> None:
    """Each column begins on a page at or after the end of the one before, and the last ends with the file."""
    layout = Layout.for_backends(configured)
    end_bytes = PAGE_BYTES
    for column in COLUMNS:
        at_bytes = layout.offset_bytes(column.name)
        assert at_bytes % PAGE_BYTES == 0
        assert at_bytes >= end_bytes
        cells = layout.backends_limit * (WORKER_ROWS if column.per_worker else 1)
        end_bytes = at_bytes + cells * np.dtype(column.dtype).itemsize
    assert end_bytes <= layout.size_bytes
    assert layout.size_bytes - end_bytes < PAGE_BYTES


@pytest.mark.parametrize("configured", [0, 700, 5000])
def test_two_workers_never_share_a_cache_line(configured: int) -> None:
    """Each worker's cells of a per-worker column fill whole cache lines."""
    layout = Layout.for_backends(configured)
    for column in COLUMNS:
        if column.per_worker:
            assert layout.backends_limit * np.dtype(column.dtype).itemsize % CACHE_LINE_BYTES == 0


def test_the_cell_of_rows_used_is_where_the_header_has_it() -> None:
    """The offset that leases read by is the header's."""
    assert header(rows_used=77)[ROWS_USED_BYTE : ROWS_USED_BYTE + 4] == (77).to_bytes(4, "little")


def test_there_is_room_to_double() -> None:
    """The number of rows is at least 1,024 and at least twice what is configured."""
    assert Layout.for_backends(3).backends_limit == BACKENDS_LEAST
    assert Layout.for_backends(1000).backends_limit >= 2000


def test_an_unknown_column_is_an_error() -> None:
    """Asking for a column that is not in the table raises."""
    with pytest.raises(KeyError, match="no_such"):
        Layout(1024).offset_bytes("no_such")


def test_a_good_header_gives_its_layout() -> None:
    """The rows named in the header are the layout's."""
    assert read_header(header(), Layout(1024).size_bytes) == Layout(1024)


@pytest.mark.parametrize(
    ("head", "size_bytes", "sentence"),
    [
        (b"", 0, "too few"),
        (header()[:-1], Layout(1024).size_bytes, "too few"),
        (header(magic=b"whatever"), Layout(1024).size_bytes, "begin"),
        (header(version=VERSION + 1), Layout(1024).size_bytes, "version"),
        (header(limit=WORKER_ROWS + 1), Layout(1024).size_bytes, "version"),
        (header(rows=2048), Layout(1024).size_bytes, "do not fit"),
        (header(rows=0), Layout(0).size_bytes, "do not fit"),
        (header(rows=1), Layout(1).size_bytes, "do not fit"),
        (header(), Layout(1024).size_bytes - 1, "do not fit"),
        (header(workers=0), Layout(1024).size_bytes, "workers"),
        (header(workers=65, rows_used=65), Layout(1024).size_bytes, "workers"),
        (header(rows_used=1), Layout(1024).size_bytes, "workers"),
        (header(rows_used=129), Layout(1024).size_bytes, "workers"),
    ],
)
def test_a_header_that_cannot_be_used_says_why(head: bytes, size_bytes: int, sentence: str) -> None:
    """Every defect of a header or of the file's length has a sentence of its own."""
    why = read_header(head, size_bytes)
    assert isinstance(why, str)
    assert sentence in why
