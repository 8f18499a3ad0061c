"""Key-value blocks: free ones, held ones, named ones."""

from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.sim.blocks import BLOCK_TOKENS, BlockPool, chain_hash, chain_hashes


def test_names_chain() -> None:
    """A block's name depends on everything before it, and only full blocks have one."""
    tokens = list(range(40))
    names = chain_hashes(0, tokens)
    assert len(names) == 2
    assert names[1] == chain_hash(names[0], tokens[16:32])
    assert chain_hashes(0, [99, *tokens[1:]])[1] != names[1]
    assert chain_hashes(7, tokens)[0] != names[0]


def test_a_named_block_survives_its_holder() -> None:
    """What was computed is found again after its request has gone, until its memory is needed."""
    pool = BlockPool(2)
    taken = pool.take((), 2)
    assert taken is not None
    pool.name(taken[0], 11)
    pool.name(taken[1], 12)
    pool.release(taken)
    assert repr(pool) == "<BlockPool 0/2 held, 2 named>"
    assert pool.prefix([11, 12, 13]) == taken
    assert pool.take(taken[:1], 1) == taken[1:]
    assert pool.prefix([11, 12]) == taken[:1]


def test_beginnings_outlive_ends() -> None:
    """Of one released chain the last block is taken first."""
    pool = BlockPool(3)
    taken = pool.take((), 3)
    assert taken is not None
    pool.release(taken)
    assert pool.take((), 1) == [taken[2]]


def test_too_few_blocks_take_nothing() -> None:
    """A request that does not fit leaves the pool as it was, shared blocks included."""
    pool = BlockPool(2)
    taken = pool.take((), 1)
    assert taken is not None
    pool.name(taken[0], 11)
    pool.release(taken)
    assert pool.take(pool.prefix([11]), 2) is None
    assert pool.held == 0
    assert pool.usage_fraction == 0


def test_a_shared_block_is_freed_by_its_last_holder() -> None:
    """Two holders of one block: it stays held until both have let go."""
    pool = BlockPool(1)
    taken = pool.take((), 1)
    assert taken is not None
    assert pool.take(taken, 0) == []
    pool.release(taken)
    assert pool.held == 1
    pool.release(taken)
    assert pool.held == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=60))
def test_blocks_are_conserved(moves: list[tuple[int, int]]) -> None:
    """Whatever is taken, named and released, every block is held or free, and all are free in the end."""
    pool = BlockPool(8)
    holders: list[list[int]] = []
    for kind, number in moves:
        names = [(number, index) for index in range(3)]
        if kind < 3:
            shared = pool.prefix(hash(name) for name in names[:kind])
            fresh = pool.take(shared, kind + 1 - len(shared))
            if fresh is not None:
                holders.append(shared + fresh)
                for block, name in zip(holders[-1], names, strict=False):
                    pool.name(block, hash(name))
        elif holders:
            pool.release(holders.pop(number % len(holders)))
        assert pool.held == len({block for blocks in holders for block in blocks})
    for blocks in holders:
        pool.release(blocks)
    assert pool.held == 0
    assert BLOCK_TOKENS == 16
