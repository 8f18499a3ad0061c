"""Passport and medical record numbers.

Neither has a check digit in running text, so a word for the document must stand right before the number:

* passports: up to nine letters and digits (ICAO 9303 part 3, document number of a TD3), as issued: nine digits (UK,
  US), a letter and 7 or 8 digits (India, US, China, Australia), two letters and 6 or 7 digits (Canada, Japan, Italy,
  Brazil), two digits, two letters and five digits (France), nine of C, F-H, J-N, P, R, T, V-Z and digits (Germany),
  three letters and six digits (Spain), ten digits (Russia);
* the second line of a machine-readable zone needs no word: it has four check digits (ICAO 9303 part 4);
* medical records: no authority gives a form (45 CFR 164.514 names them as identifiers only); hospitals use 5 to 10
  digits with up to three letters before them;
* NHS numbers: ten digits with a check of modulus 11 (NHS Data Dictionary), after "NHS".
"""

import re

from gpubalancer.brain.sensitivity.checksums import mrz, weighted_mod11
from gpubalancer.brain.sensitivity.rule import Match, Rule, labelled

_BETWEEN = (
    r"(?:[\s:.#=()'\"*,|/_-]|numbers?|nummer|numero|número|numéro|num\b|no\b|nr\b|id\b|is\b|was\b|ist\b|est\b|es\b|è"
    r"|n°|nº|my\b|the\b|card\b|book\b|document\b|holder\b|identifier\b|号码|号|號碼|為|为|は|番号"
    r"|(?:of|for) (?:patient )?[a-z]{2,15} [a-z]{2,15}\b){0,12}"
).encode()
_PASSPORT_WORDS = "passports?|passeport|reisepass(?:nummer)?|passnummer|pasaporte|passaport[oe]"
_PASSPORT_SCRIPTS = "паспорт|护照|護照|パスポート"
_PASSPORT_FORM = (
    rb"[0-9]{9}|[A-Z][0-9]{7,8}|[A-Z]{2}[ -]?[0-9]{6,7}|[0-9]{2}[A-Z]{2}[0-9]{5}|[A-Z]{3}[0-9]{6}"
    rb"|[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8}|[0-9]{2} ?[0-9]{2} ?[0-9]{6}"
)
_RECORD_WORDS = (
    r"mrn|medical.?record|patient.?(?:id|number|no|record|identifier)\b|(?:hospital|chart|health.?record|clinic).?"
    r"(?:number|no|id)\b|patientennummer|patienten-?id|emr\b|ehr\b|numéro de dossier|historia clínica"
)


def _has_digits(number: bytes) -> bool:
    """At least four digits, not all the same: else it is a word."""
    figures = [code for code in number if code < 58]
    return len(figures) >= 4 and len(set(figures)) > 1


def _second_line(match: Match) -> bool:
    """The four check digits of a TD3's second line: number, birth, expiry, and over all of them."""
    line = match[0]
    fields = ((line[:9], 9), (line[13:19], 19), (line[21:27], 27), (line[:10] + line[13:20] + line[21:43], 43))
    return all(line[place : place + 1].isdigit() and mrz(field, line[place]) for field, place in fields)


PASSPORT_RULES = (
    labelled(_PASSPORT_WORDS, _PASSPORT_FORM, _has_digits, _BETWEEN, scripts=_PASSPORT_SCRIPTS),
    Rule(
        rb"[A-Z0-9<]{9}[0-9][A-Z<]{3}[0-9]{7}[MFX<][0-9]{7}[A-Z0-9<]{15}[0-9]",
        re.compile(rb"(?<![A-Z0-9<])[A-Z0-9<]{9}[0-9][A-Z<]{3}[0-9]{7}[MFX<][0-9]{7}[A-Z0-9<]{15}[0-9](?![A-Z0-9<])"),
        _second_line,
    ),
)

MEDICAL_RECORD_RULES = (
    labelled(_RECORD_WORDS, rb"[A-Z]{0,3}-?[0-9]{5,10}|[0-9]{2,3}(?:-[0-9]{2,3}){2}", _has_digits, _BETWEEN),
    labelled("nhs", rb"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}", weighted_mod11, _BETWEEN),
)
