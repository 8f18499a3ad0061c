"""From a call's tokens, as the engine delivers them, to its answer: as a stream of events, or whole.

All events that one turn of the loop brought leave in one write, each still an event of its own; only what an interval
of tokens held back leaves as one.
"""

import asyncio
from collections.abc import Iterator

from aiohttp import web

from gpubalancer.sim.calls import Call
from gpubalancer.sim.driver import Inbox, Output
from gpubalancer.sim.engine import Reason, Request
from gpubalancer.sim.shapes import Json, Said, Shape


async def stream_answer(
    request: web.Request, call: Call, shape: Shape, inbox: Inbox, fail_after_tokens: int | None
) -> web.StreamResponse:
    """Send the answer as it comes. The head leaves at once, before the first token, as vLLM's does.

    Arguments:
        request: who asked.
        call: what was asked.
        shape: how the API writes it.
        inbox: where the tokens arrive.
        fail_after_tokens: break the connection after so many, if set.
    """
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    choices = {each: index for index, each in enumerate(call.requests)}
    unfinished, sent = len(choices), 0
    while unfinished:
        outputs = await inbox.take()
        data = bytearray() if sent else bytearray(shape.opening(call.usage()))
        for choice, text, reason in _pieces(call, choices, outputs, inbox.interval_tokens > 1):
            data += shape.piece(choice, text, reason)
            unfinished -= reason is not None
            sent += 1
            if sent == fail_after_tokens:
                await response.write(data)
                return await _break_off(request, response)
        if not unfinished:
            data += shape.closing(call.usage())
        await response.write(data)
    await response.write_eof()
    return response


async def whole_answer(call: Call, shape: Shape, inbox: Inbox) -> Json:
    """Wait for all of the answer."""
    choices = {each: index for index, each in enumerate(call.requests)}
    said = [Said() for _ in choices]
    unfinished = len(said)
    while unfinished:
        for output in await inbox.take():
            choice = choices[output.request]
            said[choice].pieces.append(_text(call, choice, output))
            said[choice].reason = output.reason
            unfinished -= output.reason is not None
    return shape.unary(said, call.usage())


def _pieces(
    call: Call, choices: dict[Request, int], outputs: list[Output], joined: bool
) -> Iterator[tuple[int, str, Reason | None]]:
    """What the events say: one token each, or all of a choice together."""
    if not joined:
        for output in outputs:
            choice = choices[output.request]
            yield choice, _text(call, choice, output), output.reason
        return
    texts: dict[int, list[str]] = {}
    reasons: dict[int, Reason | None] = {}
    for output in outputs:
        choice = choices[output.request]
        texts.setdefault(choice, []).append(_text(call, choice, output))
        reasons[choice] = output.reason
    for choice, pieces in texts.items():
        yield choice, "".join(pieces), reasons[choice]


def _text(call: Call, choice: int, output: Output) -> str:
    return "" if output.token is None else call.answers[choice].text(output.index)


async def _break_off(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """End the connection in the middle of the message, after what has been written."""
    await asyncio.sleep(0)  # the loop writes out at the end of its turn, and an abort drops what it has not
    if request.transport is not None:
        request.transport.abort()
    return response
