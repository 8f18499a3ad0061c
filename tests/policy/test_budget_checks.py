"""Budgets that could not work: each is told once, on its line."""

import pytest

from gpubalancer.policy.budget_checks import lineage
from tests.policy.reading import BACKEND, EXAMPLE, faults, read

KEY = "sha256:" + "ab" * 32
PRICED = "backends: [{url: 'http://127.0.0.1:8000', models: [m], price: {usd_per_hour: 2}}]\n"


def tenant(budget: str, more: str = "") -> str:
    """A file with one tenant that has one budget."""
    return PRICED + f"anonymous: t\ntenants: [{{name: t, budgets: [{{{budget}}}]{more}}}]\n"


TWICE_IN_A_KEY = f"""\
{PRICED}tenants:
  - name: t
    keys:
      - hash: "{KEY}"
        budgets:
          - {{unit: tokens, limit: 5, per: 1m}}
          - {{unit: tokens, limit: 6, per: 1m}}
"""

CHILD_GOES_FURTHER = """\
backends:
  - {url: 'http://a:1', kind: cpu, price: {usd_per_hour: 0}}
  - {url: 'http://b:1', kind: gpu}
anonymous: o
tenants:
  - {name: o, kinds: [cpu], budgets: [{unit: usd, limit: 5, per: month}]}
  - {name: team, parent: o}
"""

CASES = {
    "burst for a month": (
        tenant("unit: usd, limit: 5, per: month, burst: 9"),
        "3: tenants[0].budgets[0].burst: found a burst for a month, expected none",
    ),
    "burst of places": (
        tenant("unit: concurrent, limit: 5, burst: 9"),
        "3: tenants[0].budgets[0].burst: found a burst for concurrent, expected none: nothing is saved up",
    ),
    "places with a period": (
        tenant("unit: concurrent, limit: 5, per: 1m"),
        '3: tenants[0].budgets[0].per: found "1m", expected none: `concurrent` counts requests at one time',
    ),
    "no period": (
        tenant("unit: tokens, limit: 5"),
        "3: tenants[0].budgets[0].per: found nothing, expected a period",
    ),
    "too much": (
        tenant("unit: usd, limit: 10G, per: month"),
        "3: tenants[0].budgets[0].limit: found 1e+10 usd, expected at most 1152921504 usd",
    ),
    "too much for a server": (
        "state: {budgets: 'valkey://127.0.0.1'}\n" + tenant("unit: usd, limit: 10M, per: month"),
        "4: tenants[0].budgets[0].limit: found 1e+07 usd, expected at most 9007199 usd where budgets are on a server",
    ),
    "half a token": (
        tenant("unit: tokens, limit: 0.5, per: 1m"),
        "3: tenants[0].budgets[0].limit: found 0.5 tokens, expected a whole number",
    ),
    "a tenth of a millijoule": (
        tenant("unit: usd, limit: 0.0000000001, per: 1m").replace("0.0000000001", "1.0e-10"),
        "3: tenants[0].budgets[0].limit: found 1e-10 usd, expected at least 1e-09",
    ),
    "twice": (
        tenant("unit: usd, limit: 5, per: 60s}, {unit: usd, limit: 9, per: 1m"),
        "3: tenants[0].budgets[1].per: found usd per 1m a second time, expected one budget for each unit and period",
    ),
    "twice in a key": (
        TWICE_IN_A_KEY,
        "8: tenants[0].keys[0].budgets[1].per: found",
    ),
    "weight of requests": (
        tenant("unit: requests, limit: 5, per: 1m, cached_weight: 0.5"),
        "3: tenants[0].budgets[0].cached_weight: found a weight of cached tokens for requests",
    ),
    "no models": (
        tenant("unit: requests, limit: 5, per: 1m, models: []"),
        "3: tenants[0].budgets[0].models: found an empty list",
    ),
    "a model that nobody has": (
        tenant("unit: requests, limit: 5, per: 1m, models: [n]"),
        '3: tenants[0].budgets[0].models[0]: found "n", expected a model\'s own name',
    ),
    "unknown parent": (
        tenant("unit: tokens, limit: 5, per: 1m", ", parent: u"),
        '3: tenants[0].parent: found "u", expected a declared tenant',
    ),
    "own parent": (
        tenant("unit: tokens, limit: 5, per: 1m", ", parent: t"),
        '3: tenants[0].parent: found "t", expected a tenant above this one',
    ),
    "too many": (
        tenant("}, {".join(f"unit: tokens, limit: 5, per: {minutes}m" for minutes in range(1, 18))),
        "3: tenants[0].budgets: found 17 budgets, expected at most 16",
    ),
    "no price": (
        BACKEND + "anonymous: t\ntenants: [{name: t, budgets: [{unit: usd, limit: 5, per: month}]}]\n",
        '3: tenants[0].budgets[0].unit: found usd, expected a `price` for backend "127.0.0.1:8000"',
    ),
    "no meter": (
        tenant("unit: joules, limit: 5, per: 1d"),
        "3: tenants[0].budgets[0].unit: found joules, expected an `agent` or `exporter`",
    ),
    "no price where a child goes": (
        CHILD_GOES_FURTHER,
        '6: tenants[0].budgets[0].unit: found usd, expected a `price` for backend "b:1"',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_could_not_work(case: str) -> None:
    """Each is told once, on its line, with what would."""
    text, line = CASES[case]
    found = faults(text)
    assert len(found) == 1, found
    assert found[0].startswith(f"p.yaml:{line}")


def test_a_cycle_of_parents_is_told_of_each_in_it() -> None:
    """And of nobody else."""
    names = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
    text = "".join(f"  - {{name: {name}, parent: {parent}}}\n" for name, parent in names)
    found = faults(PRICED + "anonymous: a\ntenants:\n" + text)
    assert [fault.split(": found")[0] for fault in found] == [
        f"p.yaml:{4 + at}: tenants[{at}].parent" for at in range(3)
    ]


def test_unknown_zones_and_slips_have_their_line() -> None:
    """As any other setting."""
    assert "time zone" in faults(tenant("unit: tokens, limit: 5, per: day", ", time_zone: Mars/Olympus"))[0]
    for limit in ("0", "-1", "1e99"):
        assert faults(tenant(f"unit: tokens, limit: {limit}, per: day"))[0].startswith(
            "p.yaml:3: tenants[0].budgets[0]"
        )


@pytest.mark.parametrize(
    "text",
    [
        tenant("unit: usd, limit: 5, per: month"),
        tenant("unit: concurrent, limit: 5"),
        tenant("unit: tokens, limit: 5, per: week", ", time_zone: Asia/Tokyo"),
        tenant("unit: tokens, limit: 5, per: 1m, models: [m]}, {unit: tokens, limit: 5, per: 1m"),
        EXAMPLE.read_text(),
    ],
)
def test_what_works(text: str) -> None:
    """Nothing is said."""
    assert faults(text) == []


def test_lineage_goes_up() -> None:
    """From a key's tenant to the organisation."""
    text = PRICED + "anonymous: a\ntenants: [{name: a, parent: b}, {name: b, parent: c}, {name: c}]\n"
    by_name = {each.name: each for each in read(text).tenants}
    assert [each.name for each in lineage(by_name["a"], by_name)] == ["a", "b", "c"]
