"""The stand-in for NVIDIA's driver library, loaded by the real nvidia-ml-py."""

import ctypes
import shutil
from pathlib import Path

import pynvml  # type: ignore[import-untyped]  # ships no types
import pytest

from tests.telemetry.fake_nvml import LIBRARY, Script, build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled once."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml_script(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A fresh copy of the library in this process, with no GPUs yet."""
    return loaded(nvml_library, tmp_path, monkeypatch)


def loaded(library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Have nvidia-ml-py use a copy of a library: it keeps its state, and no two tests may share it."""
    copy = folder / LIBRARY
    shutil.copy(library, copy)
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(copy)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    script = Script(folder / "gpus.txt")
    monkeypatch.setenv("FAKE_NVML", str(script.path))
    script.write()
    return script
