"""Conversations go back to the engine that has read them, whichever worker they come to."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.e2e.clients import ask
from tests.e2e.engines import MODEL, engines
from tests.e2e.processes import Balancer, eventually, serving

ENGINES = {f"e{number}": ("--hardware", "h100", "--speedup", "20") for number in range(4)}
CONVERSATIONS, TURNS = 16, 5
WORDS = ("river", "stone", "cloud", "paper", "light", "window", "garden", "copper", "silver", "march", "autumn")


def converse(port: int, number: int, model: str) -> None:
    """One conversation: a long question, and shorter ones that follow."""
    dice = random.Random(number)
    messages: list[dict[str, str]] = []
    for turn in range(TURNS):
        said = " ".join(dice.choices(WORDS, k=80 if turn else 400))
        messages.append({"role": "user", "content": said})
        answer = ask(port, body={"model": model, "messages": messages, "max_tokens": 20})
        assert answer.status == 200, answer.body
        messages.append({"role": "assistant", "content": answer.json()["choices"][0]["message"]["content"]})


def predicted_well(balancer: Balancer) -> bool:
    """At least 60 % of the answers had from 0.8 to 1.25 times as many cached tokens as were foreseen."""
    name, what = "gpubalancer_prediction_error_ratio", 'what="cached_tokens"'
    count = balancer.metric(f"{name}_count", what)
    within = balancer.metric(f"{name}_bucket", what, 'le="1.25"') - balancer.metric(f"{name}_bucket", what, 'le="0.8"')
    return count >= CONVERSATIONS * TURNS and within >= 0.6 * count


def cached_share(folder: Path, backends: list[dict[str, Any]], table_bytes: int) -> float:
    """Of all prompt tokens, those that engines had read before."""
    folder.mkdir()
    routing = {"prefixes": {"table_bytes": table_bytes}}
    with serving(folder, backends, listen={"workers": 2}, routing=routing) as balancer:
        with ThreadPoolExecutor(6) as clients:
            list(clients.map(lambda number: converse(balancer.port, number, MODEL), range(CONVERSATIONS)))
        count = CONVERSATIONS * TURNS
        lines = eventually(lambda: (found := balancer.lines(status=200)) and len(found) >= count and found, "the log")
        if table_bytes:
            eventually(lambda: predicted_well(balancer), "cached tokens to be foreseen within a quarter mostly")
        cached = sum(line["cached_tokens"] for line in lines)
        return float(cached / sum(line["prompt_tokens"] for line in lines))


def test_conversations_return_to_who_has_read_them(tmp_path: Path) -> None:
    """Over two workers and four equal engines far more of the prompts is cached than without the table."""
    with engines(ENGINES) as fleet:
        without = cached_share(tmp_path / "off", [each.settings() for each in fleet], 0)
    with engines(ENGINES) as fleet:
        share = cached_share(tmp_path / "on", [each.settings() for each in fleet], 1 << 20)
    assert share > 0.6
    assert share > without + 0.15


def test_the_explanation_shows_what_was_read_before(tmp_path: Path) -> None:
    """By the engine that answered, and by no other; to another tenant nobody has read it."""
    tenants = [{"name": name} for name in ("one", "other")]
    body = {"model": MODEL, "messages": [{"role": "user", "content": "a long story " * 200}], "max_tokens": 4}
    fleet = engines(dict.fromkeys(("e0", "e1"), ("--hardware", "h100", "--speedup", "20")))
    with fleet as found, serving(tmp_path, [e.settings() for e in found], tenants=tenants, anonymous="one") as balancer:
        answered = ask(balancer.port, body=body).fields["x-gpubalancer-backend"]

        def cached(tenant: str) -> dict[str, int]:
            shown = balancer.post("/admin/v1/explain", {"tenant": tenant, "body": body})
            return {row["name"]: row["cached_tokens"] for row in shown["backends"]}

        own = cached("one")
        assert own.pop(answered) > 300
        assert list(own.values()) == [0]
        assert set(cached("other").values()) == {0}
