"""What a worker has learned, on disk: one JSON file for each worker, replaced whole.

A file that is missing, torn or of another time is no error: what it would have told is learned anew.
"""

import logging
import os
from pathlib import Path

import orjson

_log = logging.getLogger(__name__)


def load_state(path: Path) -> object:
    """What `save_state` wrote, or None."""
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None


def save_state(path: Path, state: object) -> None:
    """Write JSON values so that a reader sees the old file or the new one, never a part."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.write_bytes(orjson.dumps(state))
        os.replace(fresh, path)  # noqa: PTH105  the name says what matters: it replaces
    except OSError as error:
        _log.warning("what was learned can't be written to %s: %s", path, error.strerror)
