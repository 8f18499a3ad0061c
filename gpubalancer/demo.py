"""`gpubalancer demo`: a simulated mixed fleet, the real balancer in front, and a little live traffic.

Everything is real but the hardware: engines and balancer are processes of their own, and requests go through the data
port. What was sent where, and why, is printed a line a request.
"""

import asyncio
import contextlib
import random
import signal
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import click
import orjson

START_S = 30.0
CLIENTS = 3
PAUSE_S = 0.8

_WORDS = (
    "why",
    "do",
    "the",
    "small",
    "hours",
    "of",
    "a",
    "quiet",
    "night",
    "feel",
    "longer",
    "than",
    "the",
    "long",
    "days",
    "of",
    "a",
    "loud",
    "summer",
)


@dataclass(frozen=True, slots=True)
class Simulated:
    """One backend of the demonstration."""

    name: str
    kind: str
    hardware: str
    models: tuple[str, ...]
    clearance: str
    slots: int


FLEET = (
    Simulated("h100-a", "gpu", "h100", ("llama-3.1-8b",), "restricted", 32),
    Simulated("a100-b", "gpu", "a100", ("llama-3.1-8b",), "confidential", 32),
    Simulated("cpu-1", "cpu", "cpu", ("phi-3-mini",), "restricted", 4),
    Simulated("cloud", "cloud", "cloud", ("llama-3.1-8b", "phi-3-mini"), "public", 64),
)
_MODELS = ("llama-3.1-8b", "llama-3.1-8b", "phi-3-mini")
_TIERS = ("public", "public", "internal", "confidential")


async def run(port: int, admin_port: int, seconds: float | None) -> None:
    """Start everything, send traffic until interrupted or for so many seconds, and stop everything."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpubalancer-demo-")))
        urls = {each.name: await stack.enter_async_context(_engine(each)) for each in FLEET}
        config = folder / "gpubalancer.yaml"
        # JSON is YAML, so nothing here needs to write YAML.
        config.write_bytes(orjson.dumps(_policy(urls, folder, port, admin_port), option=orjson.OPT_INDENT_2))
        await stack.enter_async_context(_balancer(config, admin_port))
        _introduce(port, admin_port, config)
        await _traffic(port, seconds)


def _policy(urls: dict[str, str], folder: Path, port: int, admin_port: int) -> dict[str, object]:
    return {
        "version": 1,
        "listen": {"port": port},
        "admin": {"port": admin_port},
        "state": {"directory": str(folder / "state")},
        "models": {"llama-3.1-8b": {"aliases": ["gpt-4o-mini"]}},
        "backends": [
            {
                "name": each.name,
                "url": urls[each.name],
                "kind": each.kind,
                "engine": "vllm",
                "hardware": each.hardware,
                "models": list(each.models),
                "clearance": each.clearance,
                "slots": each.slots,
            }
            for each in FLEET
        ],
    }


@contextlib.asynccontextmanager
async def _engine(each: Simulated) -> AsyncIterator[str]:
    models = [argument for model in each.models for argument in ("--model", model)]
    arguments = ("engine", "--port", "0", "--hardware", each.hardware, "--name", each.name, "--slots", str(each.slots))
    async with _process(*arguments, *models, stdout=PIPE) as process:
        line = (await _first_line(process)).split()
        yield line[-1]


@contextlib.asynccontextmanager
async def _balancer(config: Path, admin_port: int) -> AsyncIterator[None]:
    async with _process("serve", "--config", str(config), stdout=DEVNULL) as process:
        until_s = time.monotonic() + START_S
        async with aiohttp.ClientSession() as session:
            while not await _ready(session, admin_port):
                if process.returncode is not None or time.monotonic() > until_s:
                    raise click.ClickException("the balancer did not start; is one of its ports in use?")
                await asyncio.sleep(0.1)
        yield


async def _ready(session: aiohttp.ClientSession, admin_port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{admin_port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


@contextlib.asynccontextmanager
async def _process(*arguments: str, stdout: int) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gpubalancer", *arguments, stdout=stdout, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def _first_line(process: Process) -> str:
    if process.stdout is None:
        raise click.ClickException("an engine has no output")
    async with asyncio.timeout(START_S):
        line = (await process.stdout.readline()).decode()
    if not line:
        raise click.ClickException("a simulated engine did not start")
    return line


def _introduce(port: int, admin_port: int, config: Path) -> None:
    click.echo(
        f"""
gpubalancer in front of a simulated fleet: {", ".join(f"{each.name} ({each.kind})" for each in FLEET)}

  try it    curl http://127.0.0.1:{port}/v1/chat/completions -H 'content-type: application/json' \\
              -d '{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "Hello"}}]}}'
  watch it  http://127.0.0.1:{admin_port}/metrics   http://127.0.0.1:{admin_port}/admin/v1/fleet
  policy    {config}
  stop it   Ctrl-C

{"model":<14}{"tier":<14}{"sent to":<10}{"ms":>7}{"tokens":>8}  why"""
    )


async def _traffic(port: int, seconds: float | None) -> None:
    """A few clients that ask something now and then."""
    chance = random.Random(7)  # noqa: S311  a demonstration, the same each time
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session, asyncio.TaskGroup() as group:
        clients = [group.create_task(_client(session, chance)) for _ in range(CLIENTS)]
        if seconds is not None:
            await asyncio.sleep(seconds)
            for client in clients:
                client.cancel()


async def _client(session: aiohttp.ClientSession, chance: random.Random) -> None:
    while True:
        await asyncio.sleep(chance.expovariate(1 / PAUSE_S))
        model, tier = chance.choice(_MODELS), chance.choice(_TIERS)
        prompt = " ".join(chance.choices(_WORDS, k=chance.randint(8, 120)))
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": chance.randint(8, 64)}
        began_s = time.monotonic()
        async with session.post("/v1/chat/completions", json=body, headers={"x-gpubalancer-tier": tier}) as answer:
            said = await answer.json()
        _tell(model, tier, answer, said, time.monotonic() - began_s)


def _tell(
    model: str, tier: str, answer: aiohttp.ClientResponse, said: dict[str, dict[str, int]], took_s: float
) -> None:
    backend = answer.headers.get("x-gpubalancer-backend", "-")
    eligible = [each.name for each in FLEET if model in each.models and _cleared(each, tier)]
    if answer.status == 200:
        why = f"least cost in seconds of {', '.join(eligible)} (serve {model}, cleared for {tier})"
    else:
        why = f"{answer.status}: {said['error']['message']}"
    tokens = said.get("usage", {}).get("total_tokens", 0)
    click.echo(f"{model:<14}{tier:<14}{backend:<10}{took_s * 1000:>7.0f}{tokens:>8}  {why}")


def _cleared(each: Simulated, tier: str) -> bool:
    ranks = ("public", "internal", "confidential", "restricted")
    return ranks.index(each.clearance) >= ranks.index(tier)
