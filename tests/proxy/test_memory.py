"""What was learned survives on disk, or is learned anew."""

from pathlib import Path

import pytest

from gpubalancer.proxy.memory import load_state, save_state


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """The last state counts, and nothing else is left in the folder."""
    path = tmp_path / "learned-0.json"
    save_state(path, {"rows": [1]})
    save_state(path, {"rows": [1, 2]})
    assert load_state(path) == {"rows": [1, 2]}
    assert [each.name for each in tmp_path.iterdir()] == ["learned-0.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff", b'{"rows": [1'])
def test_a_torn_file_tells_nothing(tmp_path: Path, content: bytes) -> None:
    """Damage is no error."""
    path = tmp_path / "learned-0.json"
    path.write_bytes(content)
    assert load_state(path) is None


def test_a_missing_file_tells_nothing(tmp_path: Path) -> None:
    """The first start has none."""
    assert load_state(tmp_path / "learned-0.json") is None


def test_a_folder_that_is_gone_is_said_and_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that refuses costs what was learned, not the worker."""
    save_state(tmp_path / "gone" / "learned-0.json", {})
    assert "can't be written" in caplog.text
