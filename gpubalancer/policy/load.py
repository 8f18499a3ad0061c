"""The policy file: read, its references followed, and turned into a `Policy`, or refused as a whole.

YAML is only composed into nodes, which keep their lines; scalars get their types by the few rules of YAML 1.2's core
schema (`off` is a word, 010 is ten, dates are text). Tags, merge keys and second documents are refused. Depth and
number of values are capped with aliases followed: no file, however made, costs more than its size deserves.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gpubalancer.policy.backends import BackendTls
from gpubalancer.policy.expand import ExpansionError, expand, read_secret
from gpubalancer.policy.explain import Tree
from gpubalancer.policy.faults import Fault, PolicyError, UnreadableFilesError
from gpubalancer.policy.findings import Path, quoted
from gpubalancer.policy.judge import judge
from gpubalancer.policy.listen import ServerTls
from gpubalancer.policy.schema import Policy

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 100_000

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,30}|[0-9]{1,30}(\.[0-9]{0,30})?)([eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_STANDARD_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


def load(path: FilePath, environ: Mapping[str, str]) -> Policy:
    """Read the policy file.

    Relative paths in it start at its folder. Raises `PolicyError` with every fault of the file.
    """
    return parse(_read_text(path), str(path), path.absolute().parent, environ)


def parse(text: str, file: str, folder: FilePath, environ: Mapping[str, str]) -> Policy:
    """Read a policy from `text`; `file` is its name in messages, and relative paths start at `folder`."""
    reader = _Reader(file, folder, environ)
    try:
        reader.tree.data = reader.value(_compose(text), ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise PolicyError([_broken(file, line, _problem(error), _advice(text, line))]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise PolicyError([_broken(file, line, f"{error.reason}: {chr(int(error.character))!a}")]) from None
    except (ValueError, OverflowError) as error:
        # PyYAML hands the code of an escape such as "\UFFFFFFFF" to chr() as it stands.
        raise PolicyError([_broken(file, 1, f"an escape for a character that does not exist ({error})")]) from None
    policy = judge(reader.tree, folder)
    if unreadable := [reader.tree.fault(*found) for found in _unreadable(policy)]:
        raise UnreadableFilesError(unreadable)
    return policy


def _read_text(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError([Fault(str(path), 1, (), f"no file that can be read ({reason})", "a policy file")]) from None
    if len(content) > MAX_FILE_BYTES:
        raise PolicyError([Fault(str(path), 1, (), "more than 1 MiB", "a policy file of at most 1 MiB")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault = Fault(str(path), line, (), f"the byte 0x{content[error.start]:02x}, which is not UTF-8", "UTF-8 text")
        raise PolicyError([fault]) from None


def _unreadable(policy: Policy) -> Iterator[tuple[Path, str, str]]:
    """The certificates and keys that cannot be read, so that this is known before they are needed."""
    for path, file in _named_files(policy):
        if not (file.is_file() and os.access(file, os.R_OK)):
            yield path, quoted(str(file), 4096), "a file that can be read"


def _named_files(policy: Policy) -> Iterator[tuple[Path, FilePath]]:
    parts: list[tuple[Path, ServerTls | BackendTls | None]] = [(("listen", "tls"), policy.listen.tls)]
    parts += [(("backends", index, "tls"), backend.tls) for index, backend in enumerate(policy.backends)]
    for path, part in parts:
        for key, value in part or ():
            if isinstance(value, FilePath):
                yield (*path, key), value


def _broken(file: str, line: int, problem: str, expected: str = "well-formed YAML") -> Fault:
    return Fault(file, line, (), f"broken YAML ({problem})", expected)


def _advice(text: str, line: int) -> str:
    """What usually mends a line that YAML stumbles over."""
    written = "".join(text.splitlines()[line - 1 : line])
    if re.search(r"[^\"'][$][{]", written):
        return 'quotes around references, as in {token: "${TOKEN}"}'
    if re.match(r" *\t", written):
        return "spaces for indentation, not tabs"
    return "well-formed YAML"


def _problem(error: yaml.MarkedYAMLError) -> str:
    if error.context and error.context_mark:
        return f"{error.problem}, {error.context} from line {error.context_mark.line + 1}"
    return str(error.problem)


def _compose(text: str) -> Node | None:
    loader = _CappedLoader(text)
    try:
        node: Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


class _CappedLoader(yaml.BaseLoader):
    """PyYAML's composer, which recurses, with a cap on depth and on the number of nodes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._depth += 1
        self._nodes += 1
        _cap(self._depth, self._nodes, self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _cap(depth: int, values: int, mark: yaml.Mark) -> None:
    if depth > MAX_DEPTH:
        raise yaml.composer.ComposerError(None, None, f"more than {MAX_DEPTH} levels", mark)
    if values > MAX_VALUES:
        raise yaml.composer.ComposerError(None, None, f"more than {MAX_VALUES} values, aliases followed", mark)


class _Reader:
    """Turns nodes into the tree. What cannot be read is a fault and None, so that the rest is still looked at."""

    def __init__(self, file: str, folder: FilePath, environ: Mapping[str, str]) -> None:
        self.tree = Tree(file)
        self._folder = folder
        self._environ = environ
        self._values = 0

    def value(self, node: Node | None, path: Path) -> Any:
        """The data that `node` stands for."""
        if node is None:
            return None
        self._values += 1
        _cap(len(path), self._values, node.start_mark)
        self.tree.lines.setdefault(path, node.start_mark.line + 1)
        if node.tag not in _STANDARD_TAGS:
            return self._fault(path, f"the tag {quoted(node.tag)}", "a plain value without a tag")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        is_plain = isinstance(node, ScalarNode) and node.style is None
        return self._scalar(node.value, is_plain, path)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._fault(path, f"a key that is a list or a mapping on line {line}", "a word as the key")
                continue
            key = key_node.value
            at = (*path, key)
            if key in found:
                where = f"the key a second time (first on line {self.tree.lines[at]})"
                self.tree.faults.append(Fault(self.tree.file, line, at, where, "each key once"))
            elif key == "<<":
                self._fault(path, f"a merge key (<<) on line {line}", "the keys themselves")
            else:
                self.tree.lines[at] = line
                found[key] = self.value(child, at)
        return found

    def _scalar(self, written: str, is_plain: bool, path: Path) -> Any:
        try:
            text = expand(written, self._environ)
            is_file = text.startswith("file:") and _is_text(text)
            if is_file:
                text = read_secret(text, self._folder)
        except ExpansionError as error:
            return self._fault(path, error.found, str(error))
        if text != written:
            self.tree.origins[path] = f"the content of a file ({quoted(written)})" if is_file else quoted(written)
        if not _is_text(text):
            return self._fault(path, "a character that no setting can hold", "text without NUL or half characters")
        return _typed(text) if is_plain and not is_file else text

    def _fault(self, path: Path, found: str, expected: str) -> None:
        self.tree.faults.append(self.tree.fault(path, found, expected))


def _typed(text: str) -> Any:
    """What an unquoted scalar means in YAML 1.2's core schema, less its octal and hexadecimal numbers."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _is_text(text: str) -> bool:
    """False for NUL, which no path or header holds, and for halves of characters, which UTF-8 does not."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
