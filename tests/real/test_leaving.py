"""SDK clients that stop reading in the middle of a stream: they go, they pause, or they just stand there."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.processes import eventually, resident_bytes
from tests.real.conftest import WRITE_TIMEOUT_S, Clients, Front
from tests.real.programs import Program

pytestmark = pytest.mark.real

METHODS = {"openai": "chat.completions.create", "anthropic": "messages.create"}
CLIENTS = [("openai2", "openai"), ("openai3", "openai"), ("openai3", "anthropic")]
HELLO: Any = [{"role": "user", "content": "Say hello."}]
MANY_TOKENS = 30_000
"""About 7 MB of events: more than the sockets' buffers hold."""
PAUSE_S = 1.0
GROWTH_BYTES = 8_000_000


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def begun(request: pytest.FixtureRequest, front: Front, clients: Clients) -> Iterator["Begun"]:
    """Each of the SDKs."""
    venv, name = request.param
    with clients(front.balancer, venv, name) as program:
        yield Begun(program, METHODS[name], f"{venv}-{name}")


class Begun:
    """An SDK that can begin a stream of which it reads only the first events."""

    def __init__(self, program: Program, method: str, label: str) -> None:
        self.program = program
        self.method = method
        self.label = label

    def stream(self, model: str, tokens: int, why: str) -> str:
        """Begin a stream; gives the request's id in the log."""
        request_id = f"{self.label}-{why}"
        more = {"x-request-id": request_id}
        self.program.ask("begin", method=self.method, events=4, model=model, messages=HELLO, max_tokens=tokens,
                         extra_headers=more)  # fmt: skip
        return request_id


def test_a_client_that_leaves_stops_the_engine(begun: Begun, front: Front) -> None:
    """Closing the stream ends the computation in llama.cpp, and the log says who left."""
    request_id = begun.stream("gemma", 900, "leaves")
    assert front.fleet.llama_is_busy()
    begun.program.ask("leave")
    eventually(lambda: not front.fleet.llama_is_busy(), "llama.cpp to stop", 2.0)
    line = front.balancer.logged(request_id=request_id)
    assert (line["code"], line["reason"], line["backend"]) == (499, "client_left", "llama")
    eventually(front.is_idle, "the slot to be free")


def test_a_client_that_pauses_misses_nothing(begun: Begun, front: Front) -> None:
    """While it pauses the balancer's memory stays; afterwards every token comes, and the clean end."""
    (worker,) = front.balancer.workers()
    before_bytes = resident_bytes(worker)
    request_id = begun.stream("tiny", MANY_TOKENS, "pauses")
    assert _most_bytes(worker) - before_bytes < GROWTH_BYTES
    assert not front.balancer.lines(request_id=request_id), "the buffers held it all"
    assert begun.program.ask("count") > MANY_TOKENS - 10
    assert front.balancer.logged(request_id=request_id)["reason"] == ""


def test_a_client_that_just_stands_there_is_dropped(begun: Begun, front: Front) -> None:
    """It loses its connection after the write timeout and its slot is free; others are served meanwhile."""
    request_id = begun.stream("tiny", MANY_TOKENS, "stands")
    served = begun.program.ask("call", method=begun.method, model="tiny", messages=HELLO, max_tokens=4)
    assert served["answer"]
    line = eventually(
        lambda: front.balancer.lines(request_id=request_id), "the client to be dropped", WRITE_TIMEOUT_S + 5.0
    )[0]
    assert (line["code"], line["reason"]) == (499, "client_left")
    eventually(front.is_idle, "the slot to be free")
    begun.program.ask("leave")


def _most_bytes(worker: int) -> int:
    """The most memory that the worker has during the pause."""
    until_s, most_bytes = time.monotonic() + PAUSE_S, 0
    while time.monotonic() < until_s:
        most_bytes = max(most_bytes, resident_bytes(worker))
        time.sleep(0.01)
    return most_bytes
