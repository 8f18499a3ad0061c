"""`gpubalancer usage`, from a policy file and a journal to what is printed."""

import asyncio
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gpubalancer.ledger.ingest import DATABASE, JOURNAL
from gpubalancer.ledger.journal import Journal
from gpubalancer.ledger.records import encode
from gpubalancer.ledger.segments import list_segments
from gpubalancer.ledger.sqlite import SqliteStore
from gpubalancer.ledger.store import Store
from gpubalancer.policy.load import load
from gpubalancer.policy.schema import Policy
from gpubalancer.usage_command import usage_command
from tests.ledger.entries import entry

AMOUNTS = ["requests", "prompt_tokens", "cached_tokens", "completion_tokens", "usd", "joules"]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file whose state directory has a journal with three requests."""
    journal = Journal(tmp_path / "state" / JOURNAL, "1")
    for number, tenant in enumerate(("a", "b", "b")):
        journal.append(encode(entry(number, tenant=tenant, nano_usd=250_000_000)))
    journal.close()
    path = tmp_path / "gpubalancer.yaml"
    path.write_text("version: 1\nbackends: [{url: http://127.0.0.1:9001}]\nstate: {directory: ./state}\n")
    return path


def read_policy(path: Path) -> Policy:
    """As the program reads it, but with `state` beside the file wherever the test runs."""
    policy = load(path, {})
    state = policy.state.model_copy(update={"directory": path.parent / "state"})
    return policy.model_copy(update={"state": state})


def run(policy: Path, *options: str, command: click.Command | None = None) -> Result:
    """The command's end."""
    return CliRunner().invoke(command or usage_command(read_policy), ["--config", str(policy), *options])


def test_it_prints_a_table(policy: Path) -> None:
    """By tenant where nothing else is asked, with the total."""
    result = run(policy)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["tenant", *AMOUNTS]
    assert [line[:3] for line in lines[1:]] == [["a", "1", "100"], ["b", "2", "203"], ["total", "3", "303"]]


def test_its_json_has_the_shape_that_programs_rely_on(policy: Path) -> None:
    """`rows` with the keys of `--by` and the amounts, and `total`; nothing else."""
    told = json.loads(run(policy, "--json", "--by", "model,day", "--tenant", "b").stdout)
    assert list(told) == ["rows", "total"]
    assert [list(row) for row in told["rows"]] == [["model", "day", *AMOUNTS]]
    assert told["total"] == {
        "requests": 2,
        "prompt_tokens": 203,
        "cached_tokens": 0,
        "completion_tokens": 20,
        "usd": 0.5,
        "joules": 0.014,
    }


def test_its_csv_is_one(policy: Path) -> None:
    """Names, then rows."""
    rows = list(csv.DictReader(io.StringIO(run(policy, "--csv", "--by", "tenant,tier").stdout)))
    assert [(row["tenant"], row["tier"], row["usd"]) for row in rows] == [("a", "-", "0.25"), ("b", "-", "0.5")]


def test_a_day_narrows(policy: Path) -> None:
    """What was before `--since` is left out."""
    assert json.loads(run(policy, "--json", "--since", "2026-11-23").stdout)["total"]["requests"] == 3
    assert json.loads(run(policy, "--json", "--since", "2026-11-24").stdout)["total"]["requests"] == 0


def test_asking_twice_counts_once(policy: Path) -> None:
    """It takes in the journal each time, and each line once."""
    assert [json.loads(run(policy, "--json").stdout)["total"]["requests"] for _ in range(3)] == [3, 3, 3]


def test_verification_says_that_records_agree(policy: Path) -> None:
    """In words beside the table, as a field of the JSON."""
    result = run(policy, "--verify")
    assert (result.exit_code, result.stderr) == (0, "the records agree: 3 requests, 333 tokens\n")
    assert json.loads(run(policy, "--verify", "--json").stdout)["verify"] == {"agrees": True, "faults": []}


def test_verification_fails_when_records_do_not_agree(policy: Path) -> None:
    """It says where, and exits with 1; the report is there all the same."""
    run(policy)
    list_segments(policy.parent / "state" / JOURNAL)[0].write_bytes(b"")
    result = run(policy, "--verify", "--json")
    assert result.exit_code == 1
    assert "the journal has 0 requests, the ledger 3" in json.loads(result.stdout)["verify"]["faults"][0]
    result = run(policy, "--verify")
    assert result.exit_code == 1
    assert result.stderr.startswith("the records do not agree:\n  ")


def test_verification_asks_the_budgets(policy: Path) -> None:
    """Who knows them is given the policy and the ledger."""

    async def check(store: Store) -> Sequence[str]:
        return ["team: 1 token too much"]

    command = usage_command(read_policy, lambda policy: check)
    result = run(policy, "--verify", command=command)
    assert (result.exit_code, result.stderr) == (1, "the records do not agree:\n  team: 1 token too much\n")


@pytest.mark.parametrize(
    ("options", "why"), [(("--by", "color"), "color: expected some of day, tenant"), (("--since", "soon"), "no day")]
)
def test_a_question_that_makes_no_sense_exits_with_2(policy: Path, options: tuple[str, ...], why: str) -> None:
    """One sentence says what was expected."""
    result = run(policy, *options)
    assert result.exit_code == 2
    assert why in result.stderr


def test_without_a_state_directory_it_says_so(policy: Path) -> None:
    """It makes no folder, so that a mistyped path is found."""
    policy.parent.joinpath("state").rename(policy.parent / "elsewhere")
    result = run(policy)
    assert (result.exit_code, "there is no state directory" in result.stderr) == (1, True)
    assert not (policy.parent / "state").exists()


def test_a_newer_ledger_is_told(policy: Path) -> None:
    """Nothing is changed in it."""

    async def make_newer() -> None:
        store = SqliteStore(policy.parent / "state" / DATABASE)
        await store.open()
        await store._run(store._connected.execute, "INSERT INTO version (number) VALUES (99)")
        await store.close()

    asyncio.run(make_newer())
    result = run(policy)
    assert result.exit_code == 1
    assert "the ledger has version 99" in result.stderr


def test_a_damaged_ledger_is_built_again(policy: Path) -> None:
    """What was done is said beside the answer."""
    (policy.parent / "state" / DATABASE).write_bytes(b"damaged " * 600)
    result = run(policy, "--json")
    assert json.loads(result.stdout)["total"]["requests"] == 3
    assert result.stderr.startswith("ledger set aside: why the ledger is damaged")
