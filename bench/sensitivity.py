"""How well and how fast sensitive text is found, beside presidio-analyzer on the same corpus and the same machine.

    python -m bench.sensitivity                               # ours alone
    python -m bench.sensitivity --presidio PYTHON             # PYTHON: an interpreter that has presidio-analyzer

Writes bench/results/sensitivity.md. Times are CPU time of the thread, the median of many runs, so that a busy machine
does not show.
"""

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import click
import orjson

from bench import machine
from bench.corpus.samples import Sample, corpus, prose
from bench.hostile_text import HOSTILE, repeated
from bench.report import number, table
from gpubalancer.brain.sensitivity.scan import Scanner
from gpubalancer.policy.tiers import Detector, Sensitivity

CHECKOUT = Path(__file__).parent.parent
RESULT = CHECKOUT / "bench" / "results" / "sensitivity.md"
PEER = Path(__file__).with_name("presidio_peer.py")
SIZES_BYTES = {"1 KB": 1000, "10 KB": 10_000, "100 KB": 100_000}
CHECKED = ("payment_card", "iban", "national_id")
SURE = 0.5
ENTITIES = {
    "CREDIT_CARD": "payment_card",
    "IBAN_CODE": "iban",
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "US_SSN": "national_id",
    "UK_NINO": "national_id",
    "DE_TAX_ID": "national_id",
    "ES_NIF": "national_id",
    "ES_NIE": "national_id",
    "IT_FISCAL_CODE": "national_id",
    "IN_AADHAAR": "national_id",
    "UK_NHS": "medical_record",
    "US_PASSPORT": "passport",
    "UK_PASSPORT": "passport",
    "IN_PASSPORT": "passport",
    "IT_PASSPORT": "passport",
    "ES_PASSPORT": "passport",
    "DE_PASSPORT": "passport",
}
"""What presidio calls it, and which of our detectors that is."""


@dataclass(frozen=True)
class Score:
    """Texts, not matches: one with the detector's matter is a positive, found or missed."""

    found: int
    missed: int
    wrong: int

    @property
    def recall(self) -> float:
        """Share of the positives that were found."""
        return self.found / (self.found + self.missed) if self.found + self.missed else 1.0

    @property
    def precision(self) -> float:
        """Share of the reports that were right; 1 where there was none."""
        return self.found / (self.found + self.wrong) if self.found + self.wrong else 1.0


@dataclass(frozen=True)
class Peer:
    """What presidio found in each sample, with its scores, and its CPU time by size."""

    version: str
    found: list[list[tuple[str, float]]]
    cpu_us: dict[str, float]

    def detectors(self, least_score: float) -> list[frozenset[str]]:
        """What it found, in our words."""
        return [
            frozenset(ENTITIES[kind] for kind, score in found if kind in ENTITIES and score >= least_score)
            for found in self.found
        ]


def scored(samples: Sequence[Sample], found: Sequence[frozenset[str]], detector: str) -> Score:
    """One detector over the corpus."""
    pairs = [(detector in sample.labels, detector in names) for sample, names in zip(samples, found, strict=True)]
    return Score(pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True)))


def scanner() -> Scanner:
    """All detectors and the phrases of injection, as a careful operator has them."""
    return Scanner(Sensitivity.model_validate({"detectors": dict.fromkeys(get_args(Detector), "a")}), {"a": 0})


def cpu_us(work: Callable[[], object], runs: int) -> float:
    """Median CPU time of a call."""
    spent = []
    for _ in range(runs):
        start = time.thread_time()
        work()
        spent.append(time.thread_time() - start)
    return statistics.median(spent) * 1e6


def ask_presidio(python: str, samples: Sequence[Sample]) -> Peer | str:
    """Its findings and times, or why there are none."""
    asked = {"samples": [sample.text for sample in samples], "sizes": texts()}
    command = [python, "-P", str(PEER)]  # without the folder, whose modules would hide others
    try:
        ended = subprocess.run(command, input=orjson.dumps(asked), capture_output=True, check=False)
    except OSError as error:
        return f"not run: {error.strerror}"
    if ended.returncode:
        return f"not run: {ended.stderr.decode(errors='replace').strip().splitlines()[-1]}"
    return Peer(**orjson.loads(ended.stdout))


def texts() -> dict[str, str]:
    """Ordinary text of each size."""
    return {name: prose(size, 1) for name, size in SIZES_BYTES.items()}


def _quality(samples: Sequence[Sample], ours: Sequence[frozenset[str]], peer: Peer | str) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for detector in get_args(Detector):
        score = scored(samples, ours, detector)
        least = 0.98 if detector in CHECKED else 0.95
        verdict = "met" if min(score.precision, score.recall) >= least else "**missed**"
        row = [
            detector,
            str(score.found + score.missed),
            f"{score.recall:.4f}",
            f"{score.precision:.4f}",
            f"{least}",
            verdict,
        ]
        if isinstance(peer, Peer) and detector in ENTITIES.values():
            for least_score in (0.0, SURE):
                theirs = scored(samples, peer.detectors(least_score), detector)
                row.append(f"{theirs.recall:.2f} / {theirs.precision:.2f}")
        rows.append(row + ["-"] * (8 - len(row)))
    return rows


def _mistakes(samples: Sequence[Sample], ours: Sequence[frozenset[str]]) -> list[Sequence[str]]:
    """Kinds of text on which a detector was wrong, without the text."""
    counts: dict[tuple[str, str, str], int] = {}
    for sample, names in zip(samples, ours, strict=True):
        for detector in sample.labels ^ names:
            key = (detector, "missed" if detector in sample.labels else "wrong", sample.kind)
            counts[key] = counts.get(key, 0) + 1
    return [(*key, str(count)) for key, count in sorted(counts.items())]


def _speed(reader: Scanner, peer: Peer | str) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for name, text in texts().items():
        ours = cpu_us(partial(reader.scan, [[text]]), 200)
        theirs = peer.cpu_us[name] if isinstance(peer, Peer) else None
        ratio = f"{theirs / ours:,.0f} x" if theirs else "-"
        rows.append((name, number(ours), number(theirs) if theirs else "-", ratio))
    return rows


def _hostile(reader: Scanner) -> list[Sequence[str]]:
    rows = []
    for name, unit in HOSTILE.items():
        at_once = repeated(reader, unit)
        loop_us = cpu_us(partial(reader.scan_at_once, [[at_once]]), 9)
        million = unit * (1_000_000 // len(unit.encode()))
        rows.append((name, loop_us, cpu_us(partial(reader.scan, [[million]]), 1)))
    rows.sort(key=lambda row: -row[1])
    return [(name, number(loop_us / 1e3), number(thread_us / 1e3)) for name, loop_us, thread_us in rows[:10]]


def report(seed: int, samples: Sequence[Sample], reader: Scanner, peer: Peer | str, about: Mapping[str, str]) -> str:
    """The report's text."""
    ours = [frozenset(finding.detector for finding in reader.scan([[sample.text]]).findings) for sample in samples]
    positives = sum(bool(sample.labels) for sample in samples)
    named = f"presidio-analyzer {peer.version}" if isinstance(peer, Peer) else f"presidio-analyzer {peer}"
    mistakes = _mistakes(samples, ours)
    heads = ("detector", "positives", "recall", "precision", "to reach", "", "presidio, any", f"presidio, {SURE}")
    return "\n".join(
        (
            "# Sensitive text: how well and how fast it is found\n",
            f"Taken {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `python -m bench.sensitivity --seed {seed}`; {named}.\n",
            table(("machine", ""), list(about.items())),
            QUALITY.format(positives=positives, decoys=len(samples) - positives, sure=SURE),
            table(heads, _quality(samples, ours, peer)),
            "Where ours were wrong:\n" if mistakes else "No text was judged wrong.\n",
            table(("detector", "", "kind of text", "texts"), mistakes) if mistakes else "",
            SPEED,
            table(("text", "ours", "presidio", "ratio"), _speed(reader, peer)),
            SLOW,
            table(("text", "on the loop", "in a thread, 1 MB"), _hostile(reader)),
        )
    )


QUALITY = """\
The corpus: {positives:,} texts with one finding each and {decoys:,} hard negatives, made from published formats
(bench/corpus). Rules were written against other seeds. A text counts for a detector if it reports anything in it.
presidio has its pattern recognisers for these detectors and a blank tokenizer; it has none for secrets. Its recall /
precision is given at any score, and at {sure} or more.
"""
SPEED = """\
## Speed

Ordinary text with an address every 2 KB, all detectors and the phrases of injection on; CPU microseconds. To reach:
100 KB under 1,000, and 20 times presidio's speed.
"""
SLOW = """\
## Text made to be slow

CPU milliseconds of the ten worst kinds in bench/hostile_text.py. On the event loop (`scan_at_once`): the longest text
of the kind that it takes; to reach: 5. In a thread (`scan`): a megabyte.
"""


@click.command()
@click.option("--seed", default=2026, show_default=True, help="Of the corpus.")
@click.option("--presidio", default="", help="An interpreter that has presidio-analyzer.")
@click.option(
    "--output", default=RESULT, type=click.Path(dir_okay=False, path_type=Path), help="Where the report goes."
)
def main(seed: int, presidio: str, output: Path) -> None:
    """Measure and write the report."""
    samples = corpus(seed)
    peer = ask_presidio(presidio, samples) if presidio else "not asked for"
    about = machine.describe(CHECKOUT) | {"hyperscan": version("hyperscan")}
    output.write_text(report(seed, samples, scanner(), peer, about))
    click.echo(f"{output}", err=True)


if __name__ == "__main__":
    main()
