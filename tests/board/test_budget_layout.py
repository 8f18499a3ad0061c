"""The layout adds up."""

from gpubalancer.board import budget_layout as layout
from gpubalancer.domain.budget import CLAIMS_LIMIT
from tests.board.budget_terms import identity


def test_records_fit_their_places() -> None:
    """The largest redo record, slot and row leave nothing over the edge."""
    assert layout.REDO_HEAD_AT + layout.REDOS[CLAIMS_LIMIT].size <= layout.REDO_BYTES
    assert layout.BEGINS[CLAIMS_LIMIT].size == layout.SLOT_ACTUAL * layout.CELL_BYTES
    assert layout.SLOT_ACTUAL + CLAIMS_LIMIT <= layout.LABEL_AT // layout.CELL_BYTES
    assert layout.WANTED_CELL < layout.ROW_CELLS
    assert layout.KEEP_CELL * layout.CELL_BYTES + layout.KEEP.size <= layout.WANTED_CELL * layout.CELL_BYTES
    assert layout.STATE_AT + layout.STATE.size == layout.LINK_CELL * layout.CELL_BYTES
    assert {each.size for each in layout.BEGINS} >= {layout.SLOT_ACTUAL * layout.CELL_BYTES}


def test_segments_follow_each_other_and_double() -> None:
    """No row is in two of them."""
    assert [layout.segment_rows(64, segment) for segment in range(3)] == [(0, 64), (1024, 128), (3072, 256)]
    assert layout.size_bytes(64, 2) == layout.ROWS_AT + 3072 * layout.ROW_BYTES


def test_an_id_never_looks_like_a_free_row() -> None:
    """Its first cell is not 0."""
    assert layout.cells_of(bytes(16)) == (1, 0)
    low, high = layout.cells_of(identity("x"))
    assert layout.ID.pack(low, high) == identity("x")
    assert all(0 <= layout.set_of(low, sets) < sets for sets in (1, 64, 1000))
