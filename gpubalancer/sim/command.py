"""`gpubalancer engine`: one simulated inference server as a process.

It prints one line when it listens, and ends on SIGTERM or SIGINT after telling its clients.
"""

import asyncio
import os
import signal

import click
import uvloop

from gpubalancer.sim.calls import Settings
from gpubalancer.sim.hardware import HARDWARE
from gpubalancer.sim.server import running
from gpubalancer.sim.words import MEAN_OUTPUT_TOKENS

_COUNT = click.IntRange(min=1)
_DIALECTS = {"vllm": True, "none": False}


@click.command("engine")
@click.option("--port", type=click.IntRange(0, 65535), required=True, help="Port to listen on; 0 takes a free one.")
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
@click.option("--api-key", help="Bearer key that /v1 paths demand.")
@click.option("--fail-after-tokens", type=_COUNT, help="Break every stream's connection after so many tokens.")
@click.option(
    "--error-rate", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share answered with 500."
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
    api_key: str | None,
    fail_after_tokens: int | None,
    error_rate: float,
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
        api_key=api_key,
        fail_after_tokens=fail_after_tokens,
        error_fraction=error_rate,
        visible=None if dialect is None else _DIALECTS[dialect],
    )
    try:
        uvloop.run(_serve(settings, host, port))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error


async def _serve(settings: Settings, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings, host, port) as server:
        click.echo(f"engine {settings.name} listening on {server.url}")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, server.driving}, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    engine()
