"""What it costs to know a request: reading its body and counting its tokens, by API and size, beside tiktoken.

Every body has a text of its own, so that no count is known before ("cold"); "cached" is a conversation of which all but
the last message was seen before, as a client sends it. A request runs as in the balancer: read and planned on the event
loop, what is left counted in a thread. CPU is that of the whole process, loop that of the event loop's thread alone.
Then the worst texts that were found, a megabyte of each, and the worst inputs of any kind through a real balancer
(`bench.loop_hold`): here the figure is the longest that the event loop was held.

    python -m bench.classify
"""

import asyncio
import itertools
import random
import sys
import textwrap
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
import uvloop

from bench.classify_report import TOKENIZER, Cost, Hold, markdown, request_us
from bench.figures import spread
from bench.loop_hold import LARGE_BYTES, measure
from bench.machine import describe
from bench.prompts import MODEL, WORDS, prompt
from gpubalancer.brain.content import LOOP_BYTES, heavy, read_content
from gpubalancer.brain.learned import TextTokens
from gpubalancer.brain.learned import measure as measure_texts
from gpubalancer.brain.tokens.counting import Counting
from gpubalancer.brain.tokens.tokenizer import Tokenizer
from gpubalancer.brain.tokens.vocabularies import load, reference

CHECKOUT = Path(__file__).parents[1]
SIZES = {"1 KB": 1_000, "10 KB": 10_000, "100 KB": 100_000}
TURN_BYTES = 500  # of a cached conversation
MEGABYTE = 1_000_000
BEAT_S = 0.0005
REPEATS = 3
LOOP_ROUNDS = 2
UNICODE = (*range(0xA0, 0xD7FF), *range(0x10000, 0x1FFFF))
LEARNED = TextTokens()


def _turns(size_bytes: int, rng: random.Random) -> list[dict[str, str]]:
    roles = itertools.cycle(("user", "assistant"))
    sizes = [TURN_BYTES] * max(size_bytes // TURN_BYTES - 1, 1)
    return [{"role": role, "content": prompt(size, rng)} for role, size in zip(roles, sizes, strict=False)]


def _conversation(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": "You are terse."}, {"role": "user", "content": text}]}


SHAPES: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "chat": ("chat", _conversation),
    "completions": ("completions", lambda text: {"prompt": text}),
    "responses": ("responses", lambda text: {"instructions": "You are terse.", "input": text}),
    "messages": ("messages", lambda text: {"system": "You are terse.", "max_tokens": 9, **_conversation(text)}),
    "embeddings of 8": ("embeddings", lambda text: {"input": textwrap.wrap(text, len(text) // 8)}),
}
"""Each API with the body that carries a text."""


@dataclass(frozen=True)
class Case:
    """Bodies of one kind and size; `earlier` is sent before each, unmeasured, so that its texts are known."""

    name: str
    size: str
    api: str
    bodies: Sequence[bytes]
    earlier: Sequence[bytes] = ()


def _encoded(fields: dict[str, Any]) -> bytes:
    return orjson.dumps({"model": MODEL, **fields})


def cases(count: int, seed: int) -> Iterator[Case]:
    """All kinds of requests, `count` bodies of each, no text twice."""
    rng = random.Random(seed)
    for size, size_bytes in SIZES.items():
        for name, (api, shape) in SHAPES.items():
            texts = [prompt(size_bytes, rng) for _ in range(count)]
            yield Case(name, size, api, [_encoded(shape(text)) for text in texts])
        histories = [_turns(size_bytes, rng) for _ in range(count)]
        grown = [[*turns, {"role": "user", "content": prompt(TURN_BYTES, rng)}] for turns in histories]
        yield Case(
            "chat, cached", size, "chat", [_encoded({"messages": turns}) for turns in grown],
            [_encoded({"messages": turns}) for turns in histories],
        )  # fmt: skip


async def count(counting: Counting, pool: ThreadPoolExecutor, api: str, body: bytes) -> int:
    """Prompt tokens of one request, step by step as the balancer takes them."""
    loop = asyncio.get_running_loop()
    if heavy(body):
        plan = await loop.run_in_executor(pool, lambda: counting.plan(read_content(api, orjson.loads(body))))
    else:
        plan = counting.plan(read_content(api, orjson.loads(body)))
    if not plan.unread:
        return plan.known_tokens
    if plan.counting is None:
        return plan.known_tokens + LEARNED.tokens(TOKENIZER, "-", measure_texts(plan.texts))
    return plan.finish(await loop.run_in_executor(pool, plan.count_rest))


async def run_case(counting: Counting, pool: ThreadPoolExecutor, case: Case) -> tuple[float, float, float, float]:
    """One round: microseconds per request of reading, of the loop, of all CPU, and of tiktoken on the same texts."""
    for body in case.earlier:
        await count(counting, pool, case.api, body)
    process_s, loop_s = time.process_time(), time.thread_time()
    for body in case.bodies:
        await count(counting, pool, case.api, body)
    loop_s, process_s = time.thread_time() - loop_s, time.process_time() - process_s
    start_s = time.thread_time()
    read = [read_content(case.api, orjson.loads(body)) for body in case.bodies]
    read_s = time.thread_time() - start_s
    encoding, start_s = reference(TOKENIZER), time.thread_time()
    for content in read:
        for message in content.messages:
            for text in message.texts:
                encoding.encode_ordinary(text)
    tiktoken_s = time.thread_time() - start_s
    each = 1e6 / len(case.bodies)
    return read_s * each, loop_s * each, process_s * each, tiktoken_s * each


def summed(rounds: Sequence[tuple[Case, tuple[float, float, float, float]]]) -> list[Cost]:
    """The rounds of each case as spreads, in the order of the first round."""
    grouped: dict[tuple[str, str], list[tuple[Case, tuple[float, float, float, float]]]] = {}
    for case, figures in rounds:
        grouped.setdefault((case.size, case.name), []).append((case, figures))
    costs = []
    for group in grouped.values():
        read, loop, cpu, tiktoken = (spread(values) for values in zip(*[figures for _, figures in group], strict=True))
        if read is not None and loop is not None and cpu is not None and tiktoken is not None:
            costs.append(Cost(group[0][0].name, group[0][0].size, read, loop, cpu, tiktoken))
    return costs


def worst_texts() -> dict[str, str]:
    """About a megabyte of what tokenizers find hard."""
    rng = random.Random(3)
    pieces = {
        "nothing": "",
        "one letter": "a",
        "two letters in turn": "ab",
        "blanks": " ",
        "blanks, tabs, newlines": " \t\n",
        "random letters": "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=MEGABYTE)),
        "base64": "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=MEGABYTE)),
        "Chinese at random": "".join(map(chr, rng.choices(range(0x4E00, 0x9FFF), k=MEGABYTE // 3))),
        "emoji": "\U0001f600\U0001f44d\U0001f3fd",
        "combining marks": "\u0301\u0327\u0316",
        "English": " ".join(rng.choices(WORDS, k=MEGABYTE // 4)),
        "all of Unicode": "".join(map(chr, rng.choices(UNICODE, k=MEGABYTE // 4))),
    }  # fmt: skip
    return {name: piece * max(MEGABYTE // max(len(piece.encode()), 1), 1) for name, piece in pieces.items()}


def worst_bodies(text: str) -> Iterator[bytes]:
    """The same text as one message, the start of it that is just read on the loop, and messages of 4,000 letters."""
    yield _encoded(_conversation(text))
    light = text[: LOOP_BYTES - 1000]
    yield _encoded(_conversation(light[: len(light) * len(light) // max(len(light.encode()), 1)]))
    parts = [text[start : start + 4000] for start in range(0, len(text), 4000)]
    yield _encoded({"messages": [{"role": "user", "content": part} for part in parts]})


@types.coroutine
def stepped(work: Coroutine[Any, Any, int], steps_s: list[float]) -> Generator[Any, Any, int]:
    """Run a coroutine and note the CPU of each step that it takes between two waits."""
    sent = None
    while True:
        start_s = time.thread_time()
        try:
            waited = work.send(sent)
        except StopIteration as ended:
            result: int = ended.value
            return result
        finally:
            steps_s.append(time.thread_time() - start_s)
        sent = yield waited


async def _beat(gaps_s: list[float]) -> None:
    """Note how much later than asked for the loop wakes us."""
    while True:
        asked_s = time.perf_counter() + BEAT_S
        await asyncio.sleep(BEAT_S)
        gaps_s.append(time.perf_counter() - asked_s)


async def hold(tokenizer: Tokenizer, pool: ThreadPoolExecutor, name: str, text: str) -> Hold:
    """Send a worst text in its two forms and watch the loop; the best of `REPEATS`."""
    runs = []
    for _ in range(REPEATS):
        counting, tokens = Counting(tokenizer, 7), 0
        steps_s, gaps_s = [0.0], [0.0]
        heart, start_s = asyncio.create_task(_beat(gaps_s)), time.process_time()
        for body in worst_bodies(text):
            await asyncio.sleep(0.01)
            tokens = await stepped(count(counting, pool, "chat", body), steps_s)
            await asyncio.sleep(0.01 if text else 0.1)
        heart.cancel()
        runs.append((max(steps_s) * 1e3, max(gaps_s) * 1e3, (time.process_time() - start_s) * 1e3, tokens))
    steps, gaps, cpu, counts = zip(*runs, strict=True)
    return Hold(tokenizer.name, name, min(steps), min(gaps), min(cpu), counts[0])


async def everything(rounds: int, bodies: int) -> tuple[list[Cost], list[Hold]]:
    """All measurements."""
    with ThreadPoolExecutor(1) as pool:
        counting, found = Counting(load(TOKENIZER), 7), []
        for number in range(rounds + 1):
            for case in cases(bodies, seed=number):
                figures = await run_case(counting, pool, case)
                if number:  # the first round warms everything up
                    found.append((case, figures))
        tokenizers = [load(name) for name in (TOKENIZER, "o200k_base", "llama3", "qwen3")]
        texts = worst_texts().items()
        holds = [await hold(tokenizer, pool, name, text) for name, text in texts for tokenizer in tokenizers]
    return summed(found), holds


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--bodies", type=click.IntRange(1), default=40, show_default=True, help="Requests of each kind in a round."
)
@click.option("--out", type=click.Path(path_type=Path), default=CHECKOUT / "bench" / "results" / "classify.md")
def main(rounds: int, bodies: int, out: Path) -> None:
    """Measure, and write the report."""
    costs, holds = uvloop.run(everything(rounds, bodies))
    held = measure(LARGE_BYTES, LOOP_ROUNDS)
    overhead = out.with_name("overhead.json")
    whole_us = request_us(overhead.read_bytes() if overhead.is_file() else None)
    command = " ".join(["python -m bench.classify", *sys.argv[1:]])
    out.write_text(markdown(command, describe(CHECKOUT), costs, holds, held, whole_us))
    click.echo(out.read_text())


if __name__ == "__main__":
    main()
