"""The last step of a request on its budgets: what it holds is replaced by what it is to be, in all rows at once."""

from collections.abc import Sequence

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budget_layout import SLOT_CELLS, SLOT_OP, STATE
from gpubalancer.board.budget_slots import SlotFile
from gpubalancer.domain.budget import State, Terms

NEVER = 1 << 62
"""In the place of a change's number: this one has not even begun."""


def settle_rows(
    file: BudgetFile,
    slots: SlotFile,
    what: tuple[int, int, int],
    every: Sequence[Terms | None],
    places: Sequence[int],
    amounts: tuple[Sequence[int], Sequence[int]],
    root: int,
    now_ns: int,
) -> None:
    """Settle a slot whose state is `SETTLING`, under its group's lock.

    `what` is the worker row, the change's number and the slot; `every` holds the terms of each row, None for a budget
    that the policy no longer has, which keeps what was reserved; `places` are where each row's state lies; `amounts`
    are what is held in each and what is to be there, as the slot says too.
    """
    worker, op, slot = what
    states, memory = [], file.memory
    for terms, place, held, actual in zip(every, places, *amounts, strict=True):
        state: State = STATE.unpack_from(memory, place)
        if terms is None:
            states.append((state[0], max(0, state[1] - held), state[2], state[3], state[4]))
        else:
            states.append(terms.settle(terms.at(state, now_ns), held, actual))
    slots.cells[slot * SLOT_CELLS + SLOT_OP] = op
    file.commit(worker, op, root, places, states)
