"""The commands. Each takes the environment apart, calls one function and turns its errors into an exit code.

Exit codes: 2 for a policy that is wrong, with one line for each fault; 1 for what the machine refuses (a port in use, a
folder that can't be written), with one sentence.

What a command needs is imported when it is called: all together take a second, and who asks for usage does not wait for
the balancer.
"""

import asyncio
import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import click
import orjson
import uvloop

from gpubalancer import __version__, logs
from gpubalancer.policy.faults import PolicyError, UnreadableFilesError
from gpubalancer.policy.load import load
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.settings import idle

KEY_BYTES = 24
"""192 bits of a key are random."""

_CONFIG = click.option("--config", "path", required=True, type=click.Path(path_type=Path), help="The policy file.")


class Commands(click.Group):
    """The group. Some of its commands stand in modules of their own (`ELSEWHERE`)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted((*super().list_commands(ctx), *ELSEWHERE))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        elsewhere = ELSEWHERE.get(cmd_name)
        return elsewhere() if elsewhere is not None else super().get_command(ctx, cmd_name)


@click.group(cls=Commands)
@click.version_option(__version__)
def main() -> None:
    """The AI-aware load balancer: one OpenAI-compatible address in front of GPU, CPU and cloud servers."""


@main.command()
@_CONFIG
def serve(path: Path) -> None:
    """Run the balancer: supervisor and workers."""
    from gpubalancer.app import StartError
    from gpubalancer.app import serve as run_balancer
    from gpubalancer.control.reload import fingerprint

    since = fingerprint(path)
    policy = _load_or_exit(path)
    logs.configure()
    try:
        uvloop.run(run_balancer(path, policy, since))
    except StartError as error:
        click.echo(str(error), err=True)
        sys.exit(1)


@main.command()
@click.option("--config", "path", type=click.Path(path_type=Path), help="The policy file.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of policy files, for editors.")
def check(path: Path | None, schema: bool) -> None:
    """Validate a policy file: exit 0 if it can be served, 2 with one line for each fault if not."""
    if schema:
        from gpubalancer.policy.document import json_schema

        click.echo(orjson.dumps(json_schema(), option=orjson.OPT_INDENT_2).decode())
        return
    if path is None:
        raise click.UsageError("--config FILE or --schema is needed.")
    policy = _load_or_exit(path)
    click.echo(f"{path}: good, {len(policy.backends)} backends, {len(policy.tenants)} tenants, policy {policy.hash}")


@main.group()
def keys() -> None:
    """Keys of tenants."""


@keys.command("new")
@click.option("--tenant", required=True, help="Whom the key is for.")
def new_key(tenant: str) -> None:
    """Make a key: shown once, with the line that goes into the policy file."""
    key = f"gb-{secrets.token_urlsafe(KEY_BYTES)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    click.echo(f"key for {tenant} (shown only now): {key}")
    click.echo(f'line for its `keys` in the file:   "sha256:{digest}"')


@main.command()
@click.option("--port", default=8080, show_default=True, help="Data port of the demonstration.")
@click.option("--admin-port", default=8081, show_default=True, help="Its admin port.")
@click.option("--seconds", type=float, help="Stop after so long; runs until interrupted if not given.")
def demo(port: int, admin_port: int, seconds: float | None) -> None:
    """A simulated mixed fleet, the balancer in front, and live traffic."""
    from gpubalancer.app import StartError
    from gpubalancer.demo import run

    try:
        asyncio.run(run(port, admin_port, seconds))
    except StartError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("")


@main.command(hidden=True)
@click.option("--index", type=int, required=True)
@click.option("--channel-fd", type=int, required=True)
@click.option("--listen-fd", type=int, required=True)
@click.option("--board", "board_path", type=click.Path(path_type=Path), required=True)
@click.option("--via", required=True)
def worker(index: int, channel_fd: int, listen_fd: int, board_path: Path, via: str) -> None:
    """One worker process; the supervisor starts it."""
    from gpubalancer.app import work

    logs.configure()
    uvloop.run(work(index, channel_fd, listen_fd, board_path, via))


def _agent() -> click.Command:
    from gpubalancer.telemetry.agent_command import agent

    return agent


def _engine() -> click.Command:
    from gpubalancer.sim.command import engine

    return engine


def _explain() -> click.Command:
    from gpubalancer.explain_command import explain_command

    return explain_command(_load_or_exit)


def _usage() -> click.Command:
    from gpubalancer.usage_command import usage_command

    return usage_command(_read_or_exit)


ELSEWHERE: Mapping[str, Callable[[], click.Command]] = MappingProxyType(
    {"agent": _agent, "engine": _engine, "explain": _explain, "usage": _usage}
)


def _read_or_exit(path: Path) -> Policy:
    try:
        return load(path, os.environ)
    except UnreadableFilesError as error:
        others = len(error.faults) - 1
        click.echo(error.faults[0].line() + (f" (and {others} more)" if others else ""), err=True)
        sys.exit(1)
    except PolicyError as error:
        for fault in error.faults:
            click.echo(fault.line(), err=True)
        sys.exit(2)


def _load_or_exit(path: Path) -> Policy:
    from gpubalancer.app import find_tokenizers

    policy = _read_or_exit(path)
    if wrong := find_tokenizers(policy):
        for sentence in wrong:
            click.echo(f"{path}: {sentence}", err=True)
        sys.exit(2)
    for setting in idle(policy):
        click.echo(f"{path}: warning: {setting} is checked, but this version does not act on it", err=True)
    return policy
