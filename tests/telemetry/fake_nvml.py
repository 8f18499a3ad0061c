"""Builds the stand-in for NVIDIA's driver library, and writes what its GPUs do."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
LIBRARY = "libnvidia-ml.so.1"
COMPILERS = ("cc", "gcc", "clang")

GIB = 1 << 30

H100: Mapping[str, object] = {
    "name": "NVIDIA H100 80GB HBM3",
    "power": 412_345,
    "power_limit": 700_000,
    "energy": 9_000_000,
    "temperature": 61,
    "sm_clock": 1965,
    "max_sm_clock": 1980,
    "memory_clock": 2619,
    "reasons": 0,
    "ecc_volatile": 0,
    "ecc_aggregate": 2,
    "utilization": 97,
    "memory_total": 80 * GIB,
    "memory_used": 71 * GIB,
    "processes": f"4711:{70 * GIB}",
    "remapped": "1 1 0 0",
    "fields": 1,
    "field.230": 0,
    "field.197": 5_000_000,
    "field.198": 7_000_000,
    "events": 0xF,
}
"""A busy card that says everything, in NVML's units."""


def build(folder: Path, *flags: str) -> Path:
    """Compile the library into a folder; skips the test where the machine has no C compiler."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        pytest.skip(f"needs a C compiler ({', '.join(COMPILERS)}) to build the stand-in for NVIDIA's driver library")
    target = folder / LIBRARY
    command = [compiler, "-O1", "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", *flags]
    subprocess.run([*command, "-o", str(target), str(SOURCE)], check=True)
    return target


class Script:
    """What the GPUs do. Every change is written at once and in one step.

    Arguments:
        path: the file that the library reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, object] = {"driver": "580.65.06", "count": 0}
        self._events = 0

    def write(self) -> None:
        """Put all lines into the file."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text("".join(f"{key} {value}\n" for key, value in self.lines.items()))
        fresh.replace(self.path)

    def gpu(self, index: int, card: Mapping[str, object] = H100, **changes: object) -> None:
        """Put in a GPU, named `GPU-<index>`."""
        said = {"uuid": f"GPU-{index}", **card, **changes}
        self.lines |= {f"gpu{index}.{name}": value for name, value in said.items()}
        self.lines["count"] = max(int(str(self.lines["count"])), index + 1)
        self.write()

    def set(self, **lines: object) -> None:
        """Change lines; a dot in a key is written as two underscores. None takes a line away."""
        named = {key.replace("__", "."): value for key, value in lines.items()}
        self.lines = {key: value for key, value in (self.lines | named).items() if value is not None}
        self.write()

    def xid(self, index: int, xid: int) -> None:
        """Have a GPU tell an error; 0 is a double-bit ECC event."""
        self._events += 1
        self.lines[f"xid.{self._events}"] = f"{index} {xid}"
        self.write()
