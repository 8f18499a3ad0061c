"""`gpubalancer engine`: one simulated inference server as a process.

It prints one line when it listens, and ends on SIGTERM or SIGINT after telling its clients.
"""

import asyncio
import math
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

import click
import uvloop

from gpubalancer.sim.agent import Trouble, serving
from gpubalancer.sim.calls import Settings
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.sim.server import running
from gpubalancer.sim.words import MEAN_OUTPUT_TOKENS

_COUNT = click.IntRange(min=1)
_PORT = click.IntRange(0, 65535)
_DIALECTS = {"vllm": True, "none": False}


def _moments(least: float, most: float, default: float | None = None) -> Callable[..., tuple[tuple[float, float], ...]]:
    """A callback that reads `SECONDS:VALUE` as often as it is given; without a default the value must be there."""

    def read(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[tuple[float, float], ...]:
        moments = []
        for text in given:
            seconds, _, value = text.partition(":")
            try:
                moment = float(seconds), float(value) if value or default is None else default
            except ValueError:
                moment = -1.0, -1.0
            if not (0 <= moment[0] < math.inf and least <= moment[1] <= most):
                raise click.BadParameter(f"{text!r} is not SECONDS:VALUE with a value from {least:g} to {most:g}")
            moments.append(moment)
        return tuple(moments)

    return read


@click.command("engine")
@click.option("--port", type=_PORT, required=True, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--model", "models", multiple=True, required=True, help="Model name to serve; may be given several times."
)
@click.option("--hardware", type=click.Choice(sorted(HARDWARE)), required=True, help="Class of machine to be like.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--name", help="What it calls itself; the class if not given.")
@click.option(
    "--dialect", type=click.Choice(list(_DIALECTS)), help="Metrics page; by default vllm, and none for cloud."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides answers and faults.")
@click.option(
    "--speedup", type=float, default=1.0, show_default=True, help="Run so many times faster; inf for no waiting."
)
@click.option("--slots", type=_COUNT, help="Requests that run at once; by default the class's.")
@click.option("--kv-blocks", type=_COUNT, help="Blocks of 16 tokens in memory; by default the class's.")
@click.option("--batch-tokens", type=_COUNT, help="Tokens per step; by default the class's.")
@click.option("--context-tokens", type=_COUNT, help="Longest prompt and answer; by default 131072 or all blocks.")
@click.option(
    "--mean-output-tokens",
    type=click.FloatRange(min=1),
    default=MEAN_OUTPUT_TOKENS,
    show_default=True,
    help="Mean length of answers that nothing limits.",
)
@click.option("--queue-limit", type=click.IntRange(min=0), help="Requests that may wait for a slot; beyond it, 503.")
@click.option(
    "--stream-interval",
    type=_COUNT,
    default=1,
    show_default=True,
    help="Tokens in one event of a stream; the first token leaves at once.",
)
@click.option("--api-key", help="Bearer key that /v1 paths demand.")
@click.option("--fail-after-tokens", type=_COUNT, help="Break every stream's connection after so many tokens.")
@click.option(
    "--error-rate", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share answered with 500."
)
@click.option("--agent-port", type=_PORT, help="Port for the GPU agent's paths alone; they are on --port anyway.")
@click.option(
    "--throttle-at",
    multiple=True,
    callback=_moments(0.01, 1, 0.5),
    metavar="SECONDS[:FRACTION]",
    help="From then on run at this fraction of the speed, 0.5 if not given; 1 ends it.",
)
@click.option(
    "--xid-at",
    multiple=True,
    callback=_moments(1, 65535),
    metavar="SECONDS:XID",
    help="Let the GPU tell this error then; 79 loses it.",
)
def engine(
    port: int,
    models: tuple[str, ...],
    hardware: str,
    host: str,
    name: str | None,
    dialect: str | None,
    seed: int,
    speedup: float,
    slots: int | None,
    kv_blocks: int | None,
    batch_tokens: int | None,
    context_tokens: int | None,
    mean_output_tokens: float,
    queue_limit: int | None,
    stream_interval: int,
    api_key: str | None,
    fail_after_tokens: int | None,
    error_rate: float,
    agent_port: int | None,
    throttle_at: tuple[tuple[float, float], ...],
    xid_at: tuple[tuple[float, float], ...],
) -> None:
    """Run one simulated inference server that speaks the OpenAI API like vLLM."""
    if not speedup > 0:
        raise click.BadParameter("must be above 0, or inf", param_hint="--speedup")
    settings = Settings(
        models=models,
        hardware=HARDWARE[hardware],
        name=name or hardware,
        seed=seed,
        speedup=speedup,
        slots=slots,
        kv_blocks=kv_blocks,
        batch_tokens=batch_tokens,
        context_tokens=context_tokens,
        mean_output_tokens=mean_output_tokens,
        queue_limit=queue_limit,
        stream_interval=stream_interval,
        api_key=api_key,
        fail_after_tokens=fail_after_tokens,
        error_fraction=error_rate,
        visible=None if dialect is None else _DIALECTS[dialect],
    )
    trouble = Trouble(throttle_at, tuple((after_s, int(xid)) for after_s, xid in xid_at))
    try:
        uvloop.run(_serve(settings, trouble, host, port, agent_port))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error


async def _serve(settings: Settings, trouble: Trouble, host: str, port: int, agent_port: int | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings, host, port, trouble) as server, AsyncExitStack() as stack:
        click.echo(f"engine {settings.name} listening on {server.url}")
        if agent_port is not None:
            url = await stack.enter_async_context(serving(server.agent, host, agent_port))
            click.echo(f"agent of {settings.name} listening on {url}")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, server.driving}, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    engine()
