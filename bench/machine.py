"""What the figures were taken on: processor, cores, kernel, and the versions of everything that took part."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path


def cpu_model(text: str) -> str:
    """The model name out of /proc/cpuinfo, or what the platform says about itself."""
    for line in text.splitlines():
        if line.lower().startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def revision(checkout: Path) -> str:
    """The commit of the checkout, with a mark when files have changed since; "unknown" outside git."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return ended.stdout.strip() or "unknown"


def describe(checkout: Path) -> dict[str, str]:
    """The rows of the report's first table, in its order."""
    libraries = [f"{name} {importlib.metadata.version(name)}" for name in ("uvloop", "httptools", "orjson")]
    total_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{total_bytes / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": f"{sys.version.split()[0]}; {', '.join(libraries)}",
        "commit": revision(checkout),
    }
