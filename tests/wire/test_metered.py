"""A stream that ends when nobody pays for more of it."""

import asyncio
from collections import deque

import pytest

from gpubalancer.wire.metered import MeteredRelay
from tests.wire.fakes import Client, Flow, exchange_of

TOKEN = b"[T]\n\n"


class Watch:
    """Counts `[T]`, and looks at everything."""

    def __init__(self) -> None:
        self.newlines, self.boundary, self.mark, self.marked = -1, b"\n\n", b"[T]", 0
        self.tail: deque[bytes] = deque(maxlen=4)

    def look(self, piece: bytes) -> bytes:
        """Take a piece."""
        self.marked += piece.count(self.mark)
        self.newlines = 2
        return piece

    def close(self) -> bytes:
        """Nothing was held."""
        return b""

    def complete(self) -> bool:
        """It always ends well."""
        return True


class Meter:
    """Pays for some tokens, and then answers what it was given to answer."""

    def __init__(self, paid: int, *answers: bool | None) -> None:
        self.paid = paid
        self.answers = list(answers)
        self.asked: list[bytes] = []

    def ask(self, event: bytes) -> bool | None:
        """One answer of those given; a yes pays for one token more."""
        self.asked.append(event)
        answer = self.answers.pop(0)
        self.paid += answer is True
        return answer

    def last_words(self) -> bytes:
        """How the stream ends."""
        return b"[length]\n\n"


class Scene:
    """A metered relay and all around it."""

    def __init__(self, meter: Meter) -> None:
        self.exchange, self.client = exchange_of(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        self.exchange.begin(200, b"", None)
        self.exchange.flush()
        self.client.sent = b""
        self.flow, self.stops = Flow(), 0
        self.relay = MeteredRelay(self.exchange, Watch(), meter, self.flow, self._stopped)

    def _stopped(self) -> None:
        self.stops += 1

    def chunk(self, piece: bytes) -> None:
        """A piece comes in a chunk of its own."""
        self.relay.write_chunk(b"%x\r\n%b\r\n" % (len(piece), piece), piece, 1.0)


def got(client: Client) -> bytes:
    """What the client was sent, without the marks of chunks."""
    lines = client.sent.split(b"\r\n")
    return b"".join(line for line in lines if not line or not line.isalnum())


def test_what_is_paid_for_passes_unasked() -> None:
    """Also the end, which carries no token."""
    meter = Meter(2)
    scene = Scene(meter)
    scene.chunk(TOKEN)
    scene.chunk(TOKEN)
    scene.relay.write(b"end\n\n", 1.0, last=True)
    assert (meter.asked, scene.stops, scene.client.calls) == ([], 0, ["ended"])
    assert got(scene.client) == TOKEN * 2 + b"end\n\n"


def test_a_stream_that_is_spent_ends_with_its_last_words() -> None:
    """Nothing of the event that was one too many goes on, nor of any after it; whoever waits is told once."""
    meter = Meter(2, False)
    scene = Scene(meter)
    for _ in range(5):
        scene.chunk(TOKEN)
    assert got(scene.client) == TOKEN * 2 + b"[length]\n\n"
    assert (scene.client.calls, scene.stops, scene.relay.stopped) == (["ended"], 1, True)
    assert scene.client.sent.endswith(b"0\r\n\r\n")


def test_a_piece_of_several_events_is_cut_where_the_budget_ends() -> None:
    """To the token, wherever the network has put them together."""
    scene = Scene(Meter(3, True, False))
    scene.chunk(TOKEN)
    scene.relay.write(TOKEN * 7 + b"end\n\n", 1.0, last=True)
    assert got(scene.client) == TOKEN * 4 + b"[length]\n\n"
    assert scene.stops == 1


def test_what_is_paid_for_in_time_goes_on() -> None:
    """The meter is asked once for each that goes beyond."""
    meter = Meter(1, True, True)
    scene = Scene(meter)
    for _ in range(3):
        scene.chunk(TOKEN)
    scene.relay.write(b"end\n\n", 1.0, last=True)
    assert len(meter.asked) == 2
    assert got(scene.client) == TOKEN * 3 + b"end\n\n"


@pytest.mark.parametrize("answer", [True, False])
def test_a_meter_that_does_not_know_yet_holds_the_backend_back(answer: bool) -> None:
    """What comes meanwhile waits, the end too, and then goes on or does not."""
    meter = Meter(1, None, answer, answer)

    async def talk() -> Scene:
        scene = Scene(meter)
        for _ in range(3):
            scene.chunk(TOKEN)
        scene.relay.write(b"end\n\n", 1.0, last=True)
        assert got(scene.client) == TOKEN
        waiting = scene.relay.waiting
        assert waiting is not None
        scene.relay.go_on()
        await waiting
        return scene

    scene = asyncio.run(talk())
    assert scene.flow.calls == ["pause", "resume"]
    assert got(scene.client) == (TOKEN * 3 + b"end\n\n" if answer else TOKEN + b"[length]\n\n")
    assert scene.relay.waiting is None


def test_an_answer_that_ended_meanwhile_is_left_alone() -> None:
    """A client that left gets nothing more."""

    async def talk() -> Scene:
        scene = Scene(Meter(0, None))
        scene.chunk(TOKEN)
        scene.exchange.break_off(b"")
        scene.relay.go_on()
        scene.relay.go_on()
        return scene

    scene = asyncio.run(talk())
    assert scene.client.calls == ["broken"]
    assert got(scene.client) == b""


def test_what_has_passed_is_kept_for_whoever_wants_it() -> None:
    """Each event, and nothing that did not go on."""
    scene = Scene(Meter(2, False))
    scene.relay.passed = []
    for _ in range(4):
        scene.chunk(TOKEN)
    assert scene.relay.passed == [TOKEN] * 2


@pytest.mark.parametrize("answer", [True, False])
def test_whoever_waits_for_the_end_waits_as_often_as_the_meter_must_ask(answer: bool) -> None:
    """A first answer that leads to another question ends nothing, and the second does."""

    async def talk() -> Scene:
        scene = Scene(Meter(0, None, None, answer))
        scene.relay.write(TOKEN + b"end\n\n", 1.0, last=True)
        finished = asyncio.ensure_future(scene.relay.finished(None))
        for _ in range(2):
            await asyncio.sleep(0)
            assert not finished.done()
            scene.relay.go_on()
        await asyncio.wait_for(finished, 5)
        return scene

    scene = asyncio.run(talk())
    assert scene.flow.calls == ["pause", "resume"] * 2
    assert got(scene.client) == (TOKEN + b"end\n\n" if answer else b"[length]\n\n")
