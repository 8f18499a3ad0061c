"""A fresh file of budgets and a till over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubalancer.board.budget_file import BudgetFile
from gpubalancer.board.budgets import Till
from tests.board.budget_terms import till


@pytest.fixture(name="file")
def made_file(tmp_path: Path) -> Iterator[BudgetFile]:
    """A fresh file, owned by us."""
    file = BudgetFile.create(tmp_path / "budgets")
    yield file
    file.close()


@pytest.fixture(name="own")
def made_till(file: BudgetFile) -> Iterator[Till]:
    """A till over it."""
    own = till(file.path)
    yield own
    own.close()
