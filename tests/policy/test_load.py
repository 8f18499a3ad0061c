"""The file itself: YAML, lines, references, and that nothing breaks the reader."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubalancer.policy.faults import Fault, PolicyError
from gpubalancer.policy.load import MAX_FILE_BYTES, _typed, load
from gpubalancer.policy.schema import Policy, dump, restore
from tests.policy.reading import BACKEND, EXAMPLE, faults, read

CONFIG = EXAMPLE.parent


def test_the_example_loads_without_an_environment() -> None:
    """As it stands in the repository."""
    policy = load(EXAMPLE, {})
    assert [backend.name for backend in policy.backends] == ["h100-a", "cpu-1", "cloud"]
    assert policy.state.directory == CONFIG / "state"
    assert policy.backends[2].credential is None


def test_the_least_file_is_short_and_loads() -> None:
    """Ten lines or fewer."""
    path = CONFIG / "least.yaml"
    assert len(path.read_text().splitlines()) <= 10
    assert load(path, {}).anonymous == "anonymous"


def test_the_environment_reaches_secrets() -> None:
    """The example's credential and token come from outside."""
    policy = load(EXAMPLE, {"CLOUD_KEY": "k", "GPUBALANCER_ADMIN_TOKEN": "t"})
    assert policy.admin.token is not None
    assert policy.backends[2].credential is not None
    assert policy.admin.token.get_secret_value() == "t"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a folder, not text, too large, impossible: one line each, that says why."""
    (tmp_path / "latin").write_bytes(b"a: 1\nb: \xe9\n")
    (tmp_path / "large").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    reasons = {"gone": "No such file", ".": "directory", "latin": "byte 0xe9", "large": "more than 1 MiB", "\0": "null"}
    for name, reason in reasons.items():
        with pytest.raises(PolicyError) as caught:
            load(tmp_path / name, {})
        assert len(caught.value.faults) == 1
        assert reason in caught.value.faults[0].line()
    with pytest.raises(PolicyError, match="latin:2: found the byte"):
        load(tmp_path / "latin", {})


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    """Some editors write one."""
    (tmp_path / "p.yaml").write_bytes(b"\xef\xbb\xbf" + BACKEND.encode())
    assert load(tmp_path / "p.yaml", {}).backends


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "1: found nothing, expected settings, at least backends:"),
        ("# only this\n", "1: found nothing, expected settings"),
        (
            "a: [1,\nb: 2",
            "2: found broken YAML (expected ',' or ']', but got '<stream end>', while parsing a flow sequence",
        ),
        (
            "backends:\n  - url: 'http://a\n",
            "3: found broken YAML (found unexpected end of stream, while scanning a quoted",
        ),
        ("a: 1\n\tb: 2", "2: found broken YAML"),
        ("a: {b: ${C}}", "1: found broken YAML"),
        (
            "a: 1\n--- \nb: 2",
            "2: found broken YAML (but found another document, expected a single document in the stream",
        ),
        ("a: *b", "1: found broken YAML (found undefined alias 'b')"),
        ('a: "\\UFFFFFFFF"', "1: found broken YAML (an escape for a character that does not exist"),
        ("a: \x07", "1: found broken YAML (special characters are not allowed: '\\x07')"),
        ("a: " + "[" * 50 + "]" * 50, "1: found broken YAML (more than 32 levels)"),
        ("a: &a [*a]", "1: found broken YAML (more than 32 levels)"),
        (
            "a: !!python/object/apply:os.system [x]",
            '1: a: found the tag "tag:yaml.org,2002:python/object/apply:os.system"',
        ),
        ("a: !secret x", '1: a: found the tag "!secret", expected a plain value without a tag'),
        ("a: &x {}\nb: {<<: *x}", "2: b: found a merge key (<<) on line 2, expected the keys themselves"),
        ("? [a]\n: b", "1: found a key that is a list or a mapping on line 1, expected a word as the key"),
        ("a: 1\nb: 2\na: 3", "3: a: found the key a second time (first on line 1), expected each key once"),
        ('a: "x\\0y"', "1: a: found a character that no setting can hold"),
        ('a: "\\ud800"', "1: a: found a character that no setting can hold"),
        ("a: ${B}", "1: a: found ${B}, which is not set, expected B in the environment, or ${B:-default}"),
        ("a: file:/nowhere", "1: a: found file:'/nowhere': No such file or directory, expected a secret file"),
    ],
)
def test_what_is_wrong_with_the_text(text: str, line: str) -> None:
    """Each has its line, and the first of them says what it is."""
    found = [
        given for given in faults(text) if "found an unknown key" not in given and "1: backends: found" not in given
    ]
    assert found[0].startswith(f"p.yaml:{line}")
    assert len(found) == 1


def test_references_between_braces_get_advice() -> None:
    """YAML takes the brace for its own."""
    assert 'expected quotes around references, as in {token: "${TOKEN}"}' in faults("admin: {token: ${TOKEN}}")[0]
    assert "expected spaces for indentation, not tabs" in faults("a: 1\n\tb: 2")[0]


def test_aliases_cannot_multiply() -> None:
    """Nine levels of nine aliases are 400 million values in a few lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9)]
    found = faults("\n".join(lines))
    assert len(found) == 1
    assert "more than 100000 values, aliases followed" in found[0]


def test_anchors_are_followed() -> None:
    """An alias stands for what its anchor marks."""
    text = "backends:\n  - {url: 'http://a', price: &p {usd_per_hour: 2}}\n  - {url: 'http://b', price: *p}\n"
    assert [backend.price.usd_per_hour for backend in read(text).backends] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("off", "off"),
        ("010", 10),
        ("0x10", "0x10"),
        ("1e3", 1000.0),
        ("2020-01-01", "2020-01-01"),
        ("~", None),
        ("1:30", "1:30"),
    ],
)
def test_scalars_are_what_they_look_like(written: str, value: object) -> None:
    """YAML 1.1's surprises are left out."""
    assert _typed(written) == value


def test_quotes_make_text() -> None:
    """A quoted number is text, an unquoted reference is what it gives."""
    assert "found 5, expected text in" not in "".join(faults(BACKEND + "anonymous: '5'"))
    assert read(BACKEND + "listen: {port: '${P}'}", {"P": "81"}).listen.port == 81
    assert read(BACKEND + "anonymous: ${NOBODY:-}", {}).anonymous == "anonymous"
    assert read(BACKEND + "listen:\n  port: ${P:-82}").listen.port == 82


def test_secret_files_are_read(tmp_path: Path) -> None:
    """Relative to the policy's folder; the newline at the end is not the secret's."""
    (tmp_path / "token").write_text("hush\n")
    policy = read(BACKEND + "admin: {token: 'file:token'}", folder=tmp_path)
    assert policy.admin.token is not None
    assert policy.admin.token.get_secret_value() == "hush"
    (tmp_path / "token").write_text("hush hush\n")
    found = faults(BACKEND + "admin: {token: 'file:token'}\nlisten: {host: 'file:token'}", folder=tmp_path)
    assert found[1].startswith(
        'p.yaml:3: listen.host: found the content of a file ("file:token"), expected an IP address'
    )
    assert "hush" not in "".join(found)


def test_certificates_are_looked_for(tmp_path: Path) -> None:
    """A file that is not there is a fault at its own setting, and paths start at the policy's folder."""
    (tmp_path / "a.pem").write_text("x")
    text = BACKEND + "listen:\n  tls:\n    certificate: a.pem\n    key: b.pem\n"
    assert faults(text, folder=tmp_path) == [
        f'p.yaml:5: listen.tls.key: found "{tmp_path / "b.pem"}", expected a file that can be read'
    ]
    (tmp_path / "b.pem").write_text("x")
    tls = read(text, folder=tmp_path).listen.tls
    assert tls is not None
    assert tls.key == tmp_path / "b.pem"


def test_a_long_path_is_cut_in_messages_only() -> None:
    """A key of any length stays on one line."""
    assert all(line.isprintable() for line in faults(BACKEND + f"{'k' * 900}: 1"))


def outcome(text: str) -> Policy | list[str]:
    """The policy, or the faults' lines, which are printable and each on a line of the file."""
    found: tuple[Fault, ...] = ()
    try:
        policy = read(text, {"A": "1"})
    except PolicyError as error:
        found = tuple(error.faults)
    else:
        assert restore(dump(policy)) == policy
        return policy
    last_line = len(text.splitlines()) + 1
    assert found
    assert all(fault.line().isprintable() and 1 <= fault.line_number <= last_line for fault in found)
    return [fault.line() for fault in found]


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Any text is a policy or is refused with lines."""
    outcome(text)


@given(st.text("abk-:[]{}&*!|>'\"%@`#,? \n\t\\x0~<.${}", max_size=120))
@settings(max_examples=300)
def test_no_yaml_breaks_the_reader(text: str) -> None:
    """Nor does any text of YAML's own marks, in the middle of a good file either."""
    outcome(text)
    outcome(BACKEND + "listen: " + text)


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["*", "${A}", "${B}", "file:x", "10s", "1KiB", "month", "public", "< 5", "sha256:" + "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [path, *(place for key in keys for place in _places(value[key], (*path, key)))]


_EXAMPLE = yaml.safe_load(EXAMPLE.read_text())
_PLACES = _places(_EXAMPLE)[1:]


def _changed(path: tuple[str | int, ...], change: Callable[[Any, str | int], None]) -> str:
    content = yaml.safe_load(EXAMPLE.read_text())
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    return yaml.safe_dump(content)


@given(st.sampled_from(_PLACES), _VALUES)
@settings(max_examples=150, deadline=None)
def test_any_value_in_the_example_is_read_or_refused(path: tuple[str | int, ...], value: Any) -> None:
    """Another value anywhere gives a policy or lines."""

    def put(holder: Any, key: str | int) -> None:
        holder[key] = value

    outcome(_changed(path, put))


@given(st.sampled_from(_PLACES))
@settings(deadline=None)
def test_any_setting_of_the_example_may_be_missing(path: tuple[str | int, ...]) -> None:
    """Without one key or item there is a policy or lines."""

    def drop(holder: Any, key: str | int) -> None:
        del holder[key]

    outcome(_changed(path, drop))


@given(
    st.sampled_from([place for place in _PLACES if isinstance(place[-1], str)]),
    st.text("abcdefgs_", min_size=1, max_size=8),
)
@settings(deadline=None)
def test_an_unknown_key_in_the_example_is_told(path: tuple[str | int, ...], key: str) -> None:
    """A key beside any other is told by its name, unless the file itself names things there."""
    free = path[:-1] in {("models",), ("sensitivity", "detectors")} or "labels" in path or path[-2:-1] == ("models",)

    def add(holder: Any, _: str | int) -> None:
        holder.setdefault(f"zz_{key}", 1)

    found = outcome(_changed(path, add))
    assert free or (isinstance(found, list) and any(f"zz_{key}: found an unknown key" in line for line in found))


def test_a_file_cut_short_anywhere_is_read_or_refused() -> None:
    """As an editor may leave it for a moment."""
    text = EXAMPLE.read_text()
    for length in random.Random(7).sample(range(len(text)), 60):
        outcome(text[:length])
