"""What kinds of machine and engine there are. The fleet's live state is columns on the board, not objects."""

from enum import StrEnum


class Kind(StrEnum):
    """The hardware behind a backend: it decides priors, prices and what a tenant may use."""

    GPU = "gpu"
    CPU = "cpu"
    CLOUD = "cloud"
