"""`gpubalancer agent`: the GPUs of this host over HTTP.

It prints one line when it listens, which also says what it found, and ends on SIGTERM or SIGINT. Where there is no
driver it serves an empty list and keeps looking: a driver may be loaded later.
"""

import asyncio
import ipaddress
import os
import re
import signal

import click

from gpubalancer.telemetry.agent import Agent, serving
from gpubalancer.telemetry.gpus import Snapshot
from gpubalancer.telemetry.host_watch import HostWatch

PORT = 9400
LEAST_INTERVAL_S = 0.1

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """A duration such as `500ms` or `1s`, as the policy file has them; a bare number is seconds."""
    found = _DURATION.fullmatch(value)
    seconds = float(found[1]) * _UNITS_S[found[2] or "s"] if found else 0.0
    if seconds < LEAST_INTERVAL_S:
        raise click.BadParameter(f"{value!r} is no duration of at least 100ms, such as 500ms, 1s or 5m", ctx, param)
    return seconds


@click.command("agent")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--interval", callback=_seconds, default="1s", show_default=True, help="Time between two samples.")
@click.option("--token-env", help="Environment variable that holds the bearer token to demand.")
def agent(port: int, host: str, interval: float, token_env: str | None) -> None:
    """Serve the state of this host's GPUs: JSON at /v1/gpus, events at /v1/events, Prometheus text at /metrics."""
    token = os.environ.get(token_env, "") if token_env else None
    if token == "":
        raise click.BadParameter(f"the environment variable {token_env} is not set, or empty", param_hint="--token-env")
    if token is None and not _is_loopback(host):
        click.echo(
            f"warning: {host} is not loopback, and without --token-env everyone who reaches it can read", err=True
        )
    try:
        asyncio.run(_serve(host, port, interval, token))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error


async def _serve(host: str, port: int, interval_s: float, token: str | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with HostWatch(interval_s) as watch, serving(Agent(watch, interval_s, token), host, port) as url:
        click.echo(f"agent listening on {url}: {found(await watch.first())}")
        await stop.wait()


def found(snapshot: Snapshot) -> str:
    """What a host has, for the first line."""
    if snapshot.problem:
        return f"no GPUs yet, {snapshot.problem}"
    instances = sum(gpu.mig is not None for gpu in snapshot.gpus)
    cards = len(snapshot.gpus) - instances
    mig = f" and {instances} MIG instances" if instances else ""
    return f"{cards} GPU{'' if cards == 1 else 's'}{mig}, driver {snapshot.driver}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    agent()
