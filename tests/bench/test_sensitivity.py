"""The sensitivity benchmark: its corpus is right by implementations of its own, and its figures are counted right."""

import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from bench import sensitivity
from bench.corpus import numbers
from bench.corpus.decoys import DECOYS
from bench.corpus.samples import KINDS, Sample, corpus, prose
from bench.hostile_text import HOSTILE, repeated
from bench.sensitivity import Peer, Score, ask_presidio, cpu_us, main, scanner, scored


def test_the_corpus_is_large_and_the_same_for_a_seed() -> None:
    """Over 2,000 positives over all detectors and 2,000 negatives; a seed gives the same texts, another one others."""
    samples = corpus(1)
    assert sum(bool(sample.labels) for sample in samples) >= 2000
    assert sum(not sample.labels for sample in samples) >= 2000
    assert {kind.name for kind in KINDS} | {name for name, _ in DECOYS} == {sample.kind for sample in samples}
    assert corpus(1, 5, 5) == corpus(1, 5, 5)
    assert corpus(1, 5, 5) != corpus(2, 5, 5)


@pytest.mark.parametrize("detector", sorted({kind.detector for kind in KINDS}))
def test_every_detector_has_its_positives(detector: str) -> None:
    """Each detector stands in at least 300 texts."""
    assert sum(detector in sample.labels for sample in corpus(1)) >= 300


def test_numbers_fit_their_standards() -> None:
    """Published properties hold: Luhn's sum, the account's remainder, the letter's place, NHS's weights."""
    random = Random(1)
    for _ in range(100):
        assert numbers.luhn_total("".join(filter(str.isdigit, numbers.card(random)))) % 10 == 0
        account = numbers.iban(random).replace(" ", "")
        assert int("".join(str(int(letter, 36)) for letter in account[4:] + account[:4])) % 97 == 1
        tax = numbers.german_tax_id(random).replace(" ", "")
        assert tax[0] != "0"
        assert max(Counter(tax[:10]).values()) == 2
        key = numbers.nir(random).replace(" ", "").replace("2A", "19").replace("2B", "18")
        assert (int(key[:13]) + int(key[13:])) % 97 == 0
        assert len(numbers.mrz_line(random)) == 44
        assert len(numbers.codice_fiscale(random)) == 16


def test_prose_has_the_size_asked_for() -> None:
    """Ordinary text is as long as asked, but for a letter cut at the end."""
    assert all(size - 3 <= len(prose(size, 1).encode()) <= size for size in (1000, 10_000))


def test_scores_are_counted_over_texts() -> None:
    """Recall is of the texts with the label, precision of the texts reported."""
    samples = [Sample("", frozenset(labels), "k") for labels in (("a",), ("a",), ("b",), ())]
    found = [frozenset(names) for names in (("a",), (), ("a", "b"), ())]
    assert scored(samples, found, "a") == Score(found=1, missed=1, wrong=1)
    assert Score(1, 1, 1).recall == Score(1, 1, 1).precision == 0.5
    assert Score(0, 0, 0).recall == Score(0, 0, 0).precision == 1.0


def test_presidios_words_are_ours() -> None:
    """What presidio found counts under our names, from the score asked for."""
    peer = Peer("1", [[("CREDIT_CARD", 1.0), ("US_SSN", 0.3), ("URL", 0.9)]], {})
    assert peer.detectors(0.0) == [{"payment_card", "national_id"}]
    assert peer.detectors(0.5) == [{"payment_card"}]


def test_a_missing_presidio_is_said() -> None:
    """Without the interpreter, or the library in it, the report says why."""
    assert ask_presidio("/nonexistent/python", []) == "not run: No such file or directory"
    assert "presidio_analyzer" in str(ask_presidio(sys.executable, []))


def test_hostile_text_is_what_the_loop_takes() -> None:
    """Each unit is repeated as often as the loop reads it, and once more where size is not what stops it."""
    reader = scanner()
    for name in ("MRN:", "digits", "spaces"):
        text = repeated(reader, HOSTILE[name])
        assert reader.scan_at_once([[text]]) is not None
        assert len(text) > 300
    assert reader.scan_at_once([[repeated(reader, HOSTILE["MRN:"]) + HOSTILE["MRN:"]]]) is None


def test_time_is_the_median_of_the_runs() -> None:
    """As many calls are made as asked, and their time is positive."""
    calls: list[int] = []
    assert cpu_us(lambda: calls.append(sum(range(1000))), 5) > 0
    assert len(calls) == 5


def test_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command writes figures for every detector, the speeds and the worst texts, and no text of the corpus."""
    monkeypatch.setattr(sensitivity, "corpus", lambda seed: corpus(seed, 10, 5))
    monkeypatch.setattr(sensitivity, "HOSTILE", {"MRN:": "MRN:"})
    output = tmp_path / "report.md"
    assert CliRunner().invoke(main, ["--seed", "3", "--output", str(output)]).exit_code == 0
    text = output.read_text()
    for said in ("| payment_card | 10 | ", "| 100 KB | ", "| MRN: | ", "presidio-analyzer not asked for"):
        assert said in text
    assert not any(sample.text in text for sample in corpus(3, 10, 5) if len(sample.text) > 20)
