"""Key-value memory in blocks of 16 tokens, shared by prefix.

A block is free, held by one or more requests, or both named and free: a full block gets a name, the chained hash of all
tokens up to its end, and keeps it when its last holder lets go. A later request with the same beginning takes it back
by that name and skips computing it. Fresh blocks come from the free ones, longest unused first; taking one ends its
name.

Two rules follow: every block is free exactly while nobody holds it, and a name points to at most one block.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

BLOCK_TOKENS = 16
"""Tokens per block: vLLM's default on GPUs."""


def chain_hash(parent: int, tokens: Sequence[int]) -> int:
    """The name of a block of `tokens` that follows the block named `parent` (0 or a salt for the first)."""
    return hash((parent, *tokens))


def chain_hashes(salt: int, tokens: Sequence[int]) -> list[int]:
    """The names of all full blocks of `tokens`, first to last."""
    names: list[int] = []
    parent = salt
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        parent = chain_hash(parent, tokens[start : start + BLOCK_TOKENS])
        names.append(parent)
    return names


class BlockPool:
    """All blocks of one engine. Blocks are numbers from 0 to `count - 1`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))
        self._holders = [0] * count
        self._name_of: list[int | None] = [None] * count
        self._block_of: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<BlockPool {self.held}/{self.count} held, {len(self._block_of)} named>"

    @property
    def held(self) -> int:
        """Blocks that somebody holds."""
        return self.count - len(self._free)

    @property
    def usage_fraction(self) -> float:
        """Share of the blocks that somebody holds; named but free ones do not count, as in vLLM."""
        return self.held / self.count

    def prefix(self, names: Iterable[int]) -> list[int]:
        """Blocks in memory for the longest beginning of `names`. Takes nothing."""
        found: list[int] = []
        for name in names:
            block = self._block_of.get(name)
            if block is None:
                break
            found.append(block)
        return found

    def take(self, shared: Sequence[int], fresh: int) -> list[int] | None:
        """Hold the `shared` blocks once more and `fresh` new ones.

        Returns: the fresh blocks, or None, with nothing taken, where not enough are free.
        """
        revived = sum(1 for block in shared if not self._holders[block])
        if revived + fresh > len(self._free):
            return None
        for block in shared:
            if not self._holders[block]:
                del self._free[block]
            self._holders[block] += 1
        return [self._take_oldest() for _ in range(fresh)]

    def _take_oldest(self) -> int:
        block, _ = self._free.popitem(last=False)
        name = self._name_of[block]
        if name is not None:
            del self._block_of[name]
            self._name_of[block] = None
        self._holders[block] = 1
        return block

    def name(self, block: int, name: int) -> None:
        """Call a full, held block `name`, unless another block has that name already."""
        if self._name_of[block] is None and name not in self._block_of:
            self._name_of[block] = name
            self._block_of[name] = block

    def release(self, blocks: Sequence[int]) -> None:
        """Let go of `blocks`. A chain's end is freed before its beginning, so that beginnings live longest."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if not self._holders[block]:
                self._free[block] = None
