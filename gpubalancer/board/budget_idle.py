"""Which rows of budgets are as good as new, so that they may be given away: nothing reserved or owed, all refilled.

A budget that the policy no longer has goes this way too; until then its row stays, so that a budget that comes back
finds what was spent.
"""

import mmap

import numpy as np

from gpubalancer.board.budget_layout import ID_CELL, KEEP_CELL, LINK_CELL, ROW_CELLS, ROWS_AT, STATE_CELL
from gpubalancer.domain.budget import State


def idle_rows(memory: mmap.mmap, now_ns: int) -> list[int]:
    """Rows that look idle and that no other row is linked to; each is to be looked at again under its lock."""
    table = np.frombuffer(memory, np.int64, offset=ROWS_AT).reshape(-1, ROW_CELLS)
    has_child = np.zeros(len(table), np.bool_)
    linked = (table[:, ID_CELL] != 0) & (table[:, LINK_CELL] > 0)
    has_child[table[linked, LINK_CELL] - 1] = True
    used, reserved, stamp, first, second = (table[:, STATE_CELL + offset] for offset in range(5))
    keep_ns, limit, period_ns = (table[:, KEEP_CELL + offset] for offset in range(3))
    full_ns = used.astype(np.float64) * period_ns / np.maximum(limit, 1)
    idle = (table[:, ID_CELL] != 0) & ~has_child & (reserved == 0) & (second == 0)
    idle &= ((period_ns > 0) | (first == 0)) & (stamp + keep_ns + full_ns < now_ns)
    return [int(row) for row in np.flatnonzero(idle)]


def is_idle(state: State, keep_ns: int, limit: int, period_ns: int, now_ns: int) -> bool:
    """True if a row's state is as good as new."""
    used, reserved, stamp, first, second = state
    if reserved or second or (first and not period_ns):
        return False
    return stamp + keep_ns + used * period_ns // max(limit, 1) < now_ns
