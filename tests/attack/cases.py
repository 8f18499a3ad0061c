"""All rows of hostile and good requests, out of the tables by subject."""

from tests.attack import cases_chunks, cases_head, cases_hops, cases_json, cases_length, cases_target
from tests.attack.case import Case

CASES: list[Case] = [
    *cases_length.CASES,
    *cases_chunks.CASES,
    *cases_target.CASES,
    *cases_head.CASES,
    *cases_hops.CASES,
    *cases_json.CASES,
]
