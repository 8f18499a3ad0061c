"""The corpus: texts with the detectors that ought to fire, made from one seed.

A positive is one number or secret in a sentence, a record, a line of code or alone, often with prose around it. A label
is the set of detectors whose matter really stands in the text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from bench.corpus import numbers
from bench.corpus.decoys import DECOYS
from bench.corpus.tokens import TOKENS

PER_DETECTOR = 320
PER_DECOY = 210

_TEXT = (
    "please check the attached report and tell me whether the numbers add up we met last week in the office the "
    "weather was fine and everybody had a good time can you summarise this for my manager in three short sentences"
)
_WORDS = _TEXT.split()
_PLAIN = (
    "{}",
    "It is {}.",
    "Please check {} for me.",
    '{{"value": "{}"}}',
    "a;{};b",
    "- {}\n- done",
    "<td>{}</td>",
    "({})",
)


@dataclass(frozen=True)
class Sample:
    """One text. `kind` is what was put in; `labels` are the detectors that must fire, and no others may."""

    text: str
    labels: frozenset[str]
    kind: str


@dataclass(frozen=True)
class Kind:
    """One kind of positive: its detector, how it is made, and the sentences it may stand in."""

    detector: str
    name: str
    make: Callable[[Random], str]
    frames: Sequence[str] = _PLAIN


_CARD = ("My card is {}, valid until 04/29.", "Charge {} please.", "pan={}", "Visa: {} cvv 123", "Kreditkarte {}")
_PASSPORT = (
    "Passport number: {}",
    "passport no. {}",
    "My passport is {}.",
    "Passport #{} expires in 2031",
    "passport_number={}",
    "Passeport n° {}",
    "Reisepassnummer: {}",
    "Número de pasaporte: {}",
    "The passport of Jane Roe is {}",
    '{{"passport": "{}"}}',
    "护照号码 {}",
)
_RECORD = (
    "MRN: {}",
    "MRN {} was admitted today.",
    "medical record number {}",
    "Medical Record No. {}",
    "Patient ID: {}",
    "patient number is {}",
    '{{"mrn": "{}"}}',
    "chart no {}",
    "hospital number: {}",
    "Patientennummer {}",
)

KINDS: tuple[Kind, ...] = (
    Kind("payment_card", "card", numbers.card, _PLAIN + _CARD),
    Kind("iban", "IBAN", numbers.iban, (*_PLAIN, "IBAN: {}", "Überweisen Sie auf {} bis Montag.", "iban={}")),
    Kind("national_id", "US SSN", numbers.ssn, (*_PLAIN, "My SSN is {}.", "social security number: {}")),
    Kind("national_id", "UK NINO", numbers.nino, (*_PLAIN, "National Insurance number {}", "NINO: {}")),
    Kind(
        "national_id", "German tax id", numbers.german_tax_id, ("Steuer-ID: {}", "IdNr. {}", "My German tax ID is {}.")
    ),
    Kind("national_id", "French NIR", numbers.nir, (*_PLAIN, "Numéro de sécurité sociale : {}", "NIR {}")),
    Kind("national_id", "Spanish DNI", numbers.dni, (*_PLAIN, "DNI {}", "Mi DNI es {}.", "NIE: {}")),
    Kind("national_id", "codice fiscale", numbers.codice_fiscale, (*_PLAIN, "Codice fiscale: {}", "CF {}")),
    Kind("national_id", "Aadhaar", numbers.aadhaar, (*_PLAIN, "Aadhaar: {}", "My Aadhaar number is {}.")),
    Kind("national_id", "CPF", numbers.cpf, (*_PLAIN, "CPF: {}", "Meu CPF é {}.")),
    Kind("passport", "passport", numbers.passport, _PASSPORT),
    Kind(
        "passport",
        "passport, machine-readable",
        numbers.mrz_line,
        ("P<UTOROE<<JANE<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<\n{}", "{}"),
    ),
    Kind("medical_record", "medical record", numbers.medical_record, _RECORD),
    Kind("medical_record", "NHS number", numbers.nhs, ("NHS number: {}", "NHS no {}", "Her NHS number is {}.")),
    Kind("email", "e-mail", numbers.email, (*_PLAIN, "Mail {} today", "From: Jane <{}>", "mailto:{}", "cc {}, please")),
    Kind("phone", "phone", numbers.phone, (*_PLAIN, "Call {} now", "Tel. {}", "My mobile is {}.", "phone={}")),
    *(
        Kind("secrets", name, make, ("{}", "Use {} in staging.", "config:\n  {}\n", "why does it fail?\n{}\n"))
        for name, make in TOKENS
    ),
)


def _prose(random: Random) -> str:
    return " ".join(random.choices(_WORDS, k=random.randint(0, 40)))


def _positives(random: Random, per_detector: int) -> list[Sample]:
    samples = []
    for detector in dict.fromkeys(kind.detector for kind in KINDS):
        kinds = [kind for kind in KINDS if kind.detector == detector]
        for index in range(max(per_detector, 30 * len(kinds) if detector in ("national_id", "secrets") else 0)):
            kind = kinds[index % len(kinds)]
            text = random.choice(kind.frames).format(kind.make(random))
            if random.random() < 0.5:
                text = f"{_prose(random)}\n{text}\n{_prose(random)}"
            samples.append(Sample(text, frozenset((detector,)), kind.name))
    return samples


def _negatives(random: Random, per_decoy: int) -> list[Sample]:
    samples = []
    for name, make in DECOYS:
        for _ in range(per_decoy):
            text = make(random)
            if random.random() < 0.5:
                text = f"{_prose(random)}\n{text}\n{_prose(random)}"
            samples.append(Sample(text, frozenset(), name))
    return samples


def corpus(seed: int, per_detector: int = PER_DETECTOR, per_decoy: int = PER_DECOY) -> list[Sample]:
    """All samples: with the defaults above 2,900 positives and 2,500 negatives."""
    random = Random(seed)
    return _positives(random, per_detector) + _negatives(random, per_decoy)


def prose(size_bytes: int, seed: int) -> str:
    """Ordinary text of a size, with a finding about every 2,000 bytes, as prompts are: what speed is measured on."""
    random = Random(seed)
    pieces: list[str] = []
    length = 0
    while length < size_bytes:
        piece = " ".join(random.choices(_WORDS, k=280)) + " " + numbers.email(random) + ". "
        pieces.append(piece)
        length += len(piece.encode())
    return "".join(pieces).encode()[:size_bytes].decode("utf-8", "ignore")
