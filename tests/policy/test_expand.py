"""References to the environment and secret files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubalancer.policy.expand import ExpansionError, expand, read_secret

ENVIRON = {"A": "1", "EMPTY": "", "TRICK": "${A}"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("${A}", "1"),
        ("x${A}y${A}", "x1y1"),
        ("${B:-2}", "2"),
        ("${B:-}", ""),
        ("${EMPTY:-2}", "2"),
        ("${EMPTY}", ""),
        ("${A:-2}", "1"),
        ("$${A}", "${A}"),
        ("$A $ {A}", "$A $ {A}"),
        ("${TRICK}", "${A}"),
        ("${B:-a:-b}", "a:-b"),
    ],
)
def test_references(text: str, expanded: str) -> None:
    """As a shell does it, but what the environment gives is not expanded again."""
    assert expand(text, ENVIRON) == expanded


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${B}", "${B}, which is not set"),
        ("${A", "${A"),
        ("${}", "${}"),
        ("${a b}", "${a b}"),
        ("${A-x}", "${A-x}"),
        ("${1}", "${1}"),
    ],
)
def test_what_cannot_be_followed(text: str, found: str) -> None:
    """A missing name and a broken reference are told."""
    with pytest.raises(ExpansionError) as caught:
        expand(text, ENVIRON)
    assert found in caught.value.found


@given(st.text("${}:-AB", max_size=30) | st.text(max_size=30))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    """No text raises anything else, and without a dollar it stays as it is."""
    try:
        expanded = expand(text, ENVIRON)
    except ExpansionError:
        return
    assert "$" in text or expanded == text


@pytest.mark.parametrize(("content", "secret"), [("hush\n", "hush"), ("hush\r\n\n", "hush"), (" a ", " a "), ("", "")])
def test_secret_files(tmp_path: Path, content: str, secret: str) -> None:
    """Newlines at the end are the editor's, spaces are the secret's."""
    (tmp_path / "s").write_bytes(content.encode())
    assert read_secret("file:s", tmp_path) == secret
    assert read_secret(f"file:{tmp_path / 's'}", Path("/nowhere")) == secret


def test_secret_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, not text, too large: each says so, none shows content."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    reasons = {"gone": "No such file", ".": "directory", "binary": "not UTF-8", "large": "more than 64 KiB"}
    for name, reason in reasons.items():
        with pytest.raises(ExpansionError, match="a secret file") as caught:
            read_secret(f"file:{name}", tmp_path)
        assert reason in caught.value.found
