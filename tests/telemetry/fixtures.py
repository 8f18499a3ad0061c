"""Lines cut out of real servers' metrics pages, each file naming the server."""

from pathlib import Path

FOLDER = Path(__file__).parent.parent / "data" / "engines"


def engine_page(name: str) -> bytes:
    """A page of `tests/data/engines`."""
    return (FOLDER / f"{name}.txt").read_bytes()
