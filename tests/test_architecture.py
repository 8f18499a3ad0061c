"""The rules of docs/architecture.md that a machine can keep, read from the syntax of every module.

Each rule is a function from sources to violations, so that a test can show it sources that break it: a rule that can't
fail keeps nothing. What is known to break a rule stands in `KNOWN`, which may only shrink: an entry that no longer
holds fails too.
"""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
PACKAGE = "gpubalancer"

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "domain": frozenset(),
    "policy": frozenset(("domain",)),
    "brain": frozenset(("domain", "policy")),
    "board": frozenset(("domain",)),
    "wire": frozenset(("domain",)),
    "valkey": frozenset(("domain", "policy", "board")),
    "proxy": frozenset(("domain", "policy", "brain", "board", "wire", "valkey")),
    "telemetry": frozenset(("domain", "board")),
    "ledger": frozenset(("domain",)),
    "control": frozenset(("domain", "policy", "brain", "board", "ledger")),
    "sim": frozenset(("domain", "policy", "brain")),
}
"""Each layer, and the layers that it may import besides itself."""

TOP: Mapping[str, frozenset[str]] = {
    "__init__": frozenset(),
    "__main__": frozenset(("cli",)),
    "logs": frozenset(("domain",)),
    "demo": frozenset(),
    "usage_command": frozenset(("ledger", "policy", "reconciling")),
    "recording": frozenset(("board", "domain", "ledger")),
    "bookkeeping": frozenset(("ledger",)),
    "reconciling": frozenset(("board", "brain", "domain", "ledger", "policy")),
    "inquiry": frozenset(("board", "brain", "control", "domain", "policy", "proxy")),
    "sensing": frozenset(("board", "domain", "policy", "telemetry", "wire")),
    "explain_command": frozenset(("brain", "control", "domain", "policy")),
    "cli": frozenset(
        ("app", "control", "demo", "explain_command", "logs", "policy", "sim", "telemetry", "usage_command", PACKAGE)
    ),
    "app": frozenset((*MAY_IMPORT, "bookkeeping", "inquiry", "logs", "reconciling", "recording", "sensing")) - {"sim"},
}
"""Modules above the layers; `app` alone joins them."""

DOORS: Mapping[str, tuple[str, ...]] = {
    "pynvml": ("telemetry/nvml/",),
    "httptools": ("wire/",),
    "yaml": ("policy/load.py",),
    "prometheus_client": ("telemetry/metrics.py", "sim/metrics.py"),
    "aiohttp": ("telemetry/", "control/", "sim/", "demo.py"),
    "uvloop": ("cli.py", "sim/command.py"),
    "click": ("cli.py", "demo.py", "explain_command.py", "usage_command.py", "sim/", "telemetry/agent_command.py"),
    "hyperscan": ("policy/tiers.py", "brain/sensitivity/"),
    "tiktoken": ("brain/tokens/",),
    "tokenizers": ("brain/tokens/",),
    "quicktok": ("brain/tokens/",),
    "mmap": ("board/",),
    "fcntl": ("board/", "ledger/"),
}
"""Each outside thing, and the files or folders that it comes in by."""

PURE = ("domain", "policy", "brain")
"""Layers that never wait."""

NO_WORLD = ("domain", "brain")
"""Layers that are given the time and have no sockets and no files."""
WORLD = frozenset(("asyncio", "socket", "ssl", "time", "datetime", "select", "selectors", "subprocess", "threading"))

BANNED_NAMES = frozenset(("utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "misc"))
FILE_LINES = 400
FUNCTION_LINES = 60

KNOWN: Mapping[str, frozenset[str]] = {
    # Drives coroutines as asyncio's own task does, which keeps any failure of them from whoever woke them.
    "broad_excepts": frozenset(("wire/errand.py:77: except Exception",)),
}
"""Violations that are known, by rule. None may be added without a reason beside it."""

WITHOUT_OWN_TEST: Mapping[str, tuple[str, ...]] = {}
"""Modules whose own test file is still to be written. None may be added; an entry whose file has come is deleted."""


@dataclass(frozen=True, slots=True)
class Source:
    """One module: its path below the package (`wire/heads.py`) or the checkout (`tests/wire/...`), and its text."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """The module's syntax."""
        return ast.parse(self.text)

    @property
    def layer(self) -> str:
        """The folder right below the package, or the name of a module at its top."""
        first = self.path.split("/")[0]
        return first.removesuffix(".py")

    @property
    def in_layer(self) -> bool:
        """True for a module in a layer's folder."""
        return "/" in self.path


Rule = Callable[[Source], Iterator[str]]


def sources(folder: str = PACKAGE) -> list[Source]:
    """All modules below a folder of the checkout."""
    root = CHECKOUT / folder
    paths = sorted(path for path in root.rglob("*.py") if "__pycache__" not in path.parts)
    above = root if folder == PACKAGE else CHECKOUT
    return [Source(path.relative_to(above).as_posix(), path.read_text()) for path in paths]


def everything() -> list[Source]:
    """All modules of the package, its tests and its benchmarks."""
    return sources() + sources("tests") + sources("bench")


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a module imports, `from a import b` as `a.b`, relative ones resolved."""
    package = [PACKAGE, *source.path.split("/")[:-1]]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def layers(source: Source) -> Iterator[str]:
    """Imports of a layer that this one may not know."""
    allowed = MAY_IMPORT.get(source.layer) if source.in_layer else TOP.get(source.layer)
    if allowed is None:
        yield f"{source.path}: is in no layer"
        return
    own = {source.layer} if source.in_layer else set()
    known = {*MAY_IMPORT, *TOP}
    for line, name in imported(source):
        first, _, rest = name.partition(".")
        if first != PACKAGE:
            continue
        target = rest.split(".")[0]
        # What the package itself defines (`__version__`) is no layer.
        target = target if target in known else PACKAGE
        if target not in allowed | own:
            yield f"{source.path}:{line}: imports {name}"


def doors(source: Source) -> Iterator[str]:
    """Imports of an outside thing elsewhere than at its door."""
    for line, name in imported(source):
        places = DOORS.get(name.split(".")[0])
        if places is None:
            continue
        if not any(source.path == place or (place.endswith("/") and source.path.startswith(place)) for place in places):
            yield f"{source.path}:{line}: imports {name}"


def waiting(source: Source) -> Iterator[str]:
    """Anything asynchronous in a layer that never waits."""
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    if source.layer in PURE:
        yield from (
            f"{source.path}:{node.lineno}: {type(node).__name__}"
            for node in ast.walk(source.tree)
            if isinstance(node, kinds)
        )


def world(source: Source) -> Iterator[str]:
    """Clocks, sockets and processes in a layer that is given what it decides on."""
    if source.layer not in NO_WORLD:
        return
    for line, name in imported(source):
        if name.split(".")[0] in WORLD:
            yield f"{source.path}:{line}: imports {name}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            yield f"{source.path}:{node.lineno}: opens a file"


def file_length(source: Source) -> Iterator[str]:
    """Files that are too long to be read at once."""
    if len(source.text.splitlines()) > FILE_LINES:
        yield f"{source.path}: more than {FILE_LINES} lines"


def function_length(source: Source) -> Iterator[str]:
    """Functions that are too long to be seen at once, decorators left out."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{source.path}:{node.lineno}: {node.name} has {lines} lines"


def names(source: Source) -> Iterator[str]:
    """Folders and modules whose name says nothing, alone or as the last word of several."""
    for part in source.path.removesuffix(".py").split("/"):
        if part.lower().strip("_").split("_")[-1] in BANNED_NAMES:
            yield f"{source.path}: the name {part}"


def broad_excepts(source: Source) -> Iterator[str]:
    """Handlers that catch what they can't know."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(kind is None or ast.unparse(kind).split(".")[-1] in {"Exception", "BaseException"} for kind in caught):
            yield f"{source.path}:{node.lineno}: except {ast.unparse(node.type) if node.type else ''}".rstrip()


def suppressed(source: Source) -> Iterator[str]:
    """`contextlib.suppress` of everything, which is a broad `except` by another name."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] != "suppress":
            continue
        if {ast.unparse(kind).split(".")[-1] for kind in node.args} & {"Exception", "BaseException"}:
            yield f"{source.path}:{node.lineno}: {ast.unparse(node)}"


def globals_(source: Source) -> Iterator[str]:
    """Functions that assign to a module's names."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            yield f"{source.path}:{node.lineno}: global {', '.join(node.names)}"


def docstrings(source: Source) -> Iterator[str]:
    """Modules that don't say how they work."""
    if not ast.get_docstring(source.tree):
        yield f"{source.path}: no docstring"


def mirrored(source: Source) -> Iterator[str]:
    """Modules of the layers without a test file at the mirrored path."""
    path = Path(source.path)
    if source.in_layer and path.stem not in ("__init__", *WITHOUT_OWN_TEST.get(source.layer, ())):
        test = path.with_name(f"test_{path.name}").as_posix()
        if not (CHECKOUT / "tests" / test).is_file():
            yield f"{source.path}: no tests/{test}"


def sentences(source: Source) -> Iterator[str]:
    """Tests without a docstring."""
    if not Path(source.path).name.startswith("test_"):
        return
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("test") and not ast.get_docstring(node):
            yield f"{source.path}:{node.lineno}: {node.name}"


def check(rule: Rule, where: list[Source]) -> None:
    """Fail unless the violations of a rule are exactly the known ones."""
    found = {violation for source in where for violation in rule(source)}
    known = KNOWN.get(rule.__name__, frozenset())
    assert not found - known, "\n".join(["new violations:", *sorted(found - known)])
    assert not known - found, "\n".join(["no longer true, take it out of KNOWN:", *sorted(known - found)])


def test_there_is_something_to_look_at() -> None:
    """Every layer's folder that exists holds modules, and the modules at the top are those that are known."""
    found = sources()
    assert {source.layer for source in found if source.in_layer} <= set(MAY_IMPORT)
    assert {source.layer for source in found if not source.in_layer} == set(TOP)
    assert len(found) > 50


def test_layers_import_downwards_only() -> None:
    """A layer imports only the layers that the table allows it."""
    check(layers, sources())


def test_each_outside_thing_has_one_door() -> None:
    """A library that touches the outside is imported at its door and nowhere else."""
    check(doors, sources())


def test_what_decides_never_waits() -> None:
    """There is no `await` in domain, policy and brain."""
    check(waiting, sources())


def test_what_decides_has_no_clock_and_no_socket() -> None:
    """Domain and brain import no module that tells the time or reaches outside the process."""
    check(world, sources())


def test_files_are_short() -> None:
    """No file has more than 400 lines."""
    check(file_length, everything())


def test_functions_are_short() -> None:
    """No function has more than 60 lines."""
    check(function_length, everything())


def test_names_say_something() -> None:
    """No module or folder is a place for whatever fits nowhere else."""
    check(names, everything())


def test_errors_are_caught_by_name() -> None:
    """No handler and no `suppress` takes every exception."""
    check(broad_excepts, everything())
    check(suppressed, everything())


def test_nothing_is_assigned_globally() -> None:
    """No function uses `global`."""
    check(globals_, everything())


def test_every_module_says_how_it_works() -> None:
    """Each module opens with a docstring."""
    check(docstrings, sources())


def test_every_module_has_its_test_file() -> None:
    """Each module of the layers has a test file at the mirrored path."""
    check(mirrored, sources())


def test_exceptions_are_modules_that_exist() -> None:
    """The list of modules without a test of their own names no module that is gone."""
    listed = {f"{layer}/{name}.py" for layer, names in WITHOUT_OWN_TEST.items() for name in names}
    assert listed <= {source.path for source in sources()}


def test_every_test_says_what_it_shows() -> None:
    """Each test function has a docstring."""
    check(sentences, sources("tests"))


BROKEN: list[tuple[Rule, str, str]] = [
    (layers, "brain/x.py", "from gpubalancer.wire.heads import RequestHead"),
    (layers, "telemetry/x.py", "import gpubalancer.policy.schema"),
    (layers, "domain/x.py", "from gpubalancer import board"),
    (layers, "wire/x.py", "def late():\n    from ..policy import schema"),
    (layers, "proxy/x.py", "from gpubalancer.app import serve"),
    (layers, "novel/x.py", "import os"),
    (doors, "proxy/x.py", "import httptools"),
    (doors, "policy/loader.py", "from yaml import nodes"),
    (doors, "wire/x.py", "import aiohttp"),
    (doors, "telemetry/nvml.py", "import pynvml"),
    (waiting, "brain/x.py", "async def choose(): ..."),
    (waiting, "policy/x.py", "async def f():\n    await g()"),
    (world, "brain/x.py", "import time"),
    (world, "brain/x.py", "def f():\n    return open('a')"),
    (file_length, "wire/x.py", "x = 1\n" * 401),
    (function_length, "wire/x.py", "def f():\n" + "    x = 1\n" * 60),
    (names, "wire/http_utils.py", ""),
    (names, "common/x.py", ""),
    (broad_excepts, "wire/x.py", "try:\n    f()\nexcept:\n    pass"),
    (broad_excepts, "wire/x.py", "try:\n    f()\nexcept (OSError, Exception):\n    pass"),
    (suppressed, "wire/x.py", "with contextlib.suppress(Exception):\n    f()"),
    (globals_, "wire/x.py", "def f():\n    global x\n    x = 1"),
    (docstrings, "wire/x.py", "x = 1"),
    (mirrored, "wire/x_that_nobody_tests.py", ""),
    (sentences, "wire/test_x.py", "def test_x():\n    assert True"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_each_rule_can_fail(rule: Rule, path: str, text: str) -> None:
    """A source that breaks a rule is found by it."""
    assert list(rule(Source(path, text)))


def test_every_rule_is_shown_to_fail() -> None:
    """Each rule of this file has a source that breaks it in `BROKEN`."""
    here = sys.modules[__name__]
    rules = {name for name, thing in vars(here).items() if getattr(thing, "__annotations__", {}) == _RULE_ANNOTATIONS}
    assert rules == {rule.__name__ for rule, _, _ in BROKEN}


def test_good_sources_pass() -> None:
    """A source that keeps all rules is found by none of them."""
    good = Source("wire/heads.py", '"""How it works."""\n\nfrom gpubalancer.domain.errors import RequestError\n')
    assert not [violation for rule, _, _ in BROKEN for violation in rule(good)]


_RULE_ANNOTATIONS = {"source": Source, "return": Iterator[str]}
