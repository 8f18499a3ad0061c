"""Published request traces, cut into windows and stretched to a rate.

A window is as many consecutive requests as a run of that rate and length needs, from a place in the trace that the
seed draws. Its times are stretched to the run's length, so that the order, the lengths and the bursts are the trace's
own and the mean rate is the run's.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from random import Random

import orjson

BLOCK_TOKENS = 512
"""Tokens that one of Mooncake's `hash_ids` stands for."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request.

    Attributes:
        at_s: since the window's beginning.
        prompt_tokens, output_tokens: at least one each.
        blocks: what each 512 tokens of the prompt are, by number; empty where the trace does not tell.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@cache
def read_trace(path: Path) -> tuple[Arrival, ...]:
    """All requests of a trace in order of time, from its own zero.

    Arguments:
        path: a CSV of Azure's (`TIMESTAMP,ContextTokens,GeneratedTokens`) or a JSONL of Mooncake's.
    """
    rows = _mooncake(path) if path.suffix == ".jsonl" else _azure(path)
    zero_s = rows[0].at_s
    return tuple(Arrival(row.at_s - zero_s, row.prompt_tokens, row.output_tokens, row.blocks) for row in rows)


def _azure(path: Path) -> list[Arrival]:
    with path.open(newline="") as file:
        return [
            # The last of seven digits after the second is more than Python reads.
            Arrival(
                datetime.fromisoformat(f"{row['TIMESTAMP'][:26]}+00:00").timestamp(),
                max(int(row["ContextTokens"]), 1),
                max(int(row["GeneratedTokens"]), 1),
            )
            for row in csv.DictReader(file)
        ]


def _mooncake(path: Path) -> list[Arrival]:
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return [
        Arrival(
            row["timestamp"] / 1000, max(row["input_length"], 1), max(row["output_length"], 1), tuple(row["hash_ids"])
        )
        for row in rows
    ]


def window(trace: Sequence[Arrival], rate_per_s: float, seconds: float, seed: int) -> list[Arrival]:
    """As many consecutive requests as come in `seconds` at this rate, stretched to that time.

    Raises: ValueError where the trace is shorter.
    """
    count = math.ceil(rate_per_s * seconds)
    if count >= len(trace):
        raise ValueError(f"{count} requests are more than the trace has: {len(trace)}")
    start = Random(seed).randrange(len(trace) - count)
    zero_s, end_s = trace[start].at_s, trace[start + count].at_s
    scale = seconds / (end_s - zero_s)
    return [
        Arrival((each.at_s - zero_s) * scale, each.prompt_tokens, each.output_tokens, each.blocks)
        for each in trace[start : start + count]
    ]
