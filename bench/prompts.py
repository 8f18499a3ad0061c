"""The requests and answers that every contestant carries: valid OpenAI chat bodies of a given size.

The words are English and drawn with a fixed seed, so that all contestants get the same bytes and a prefix cache or a
pattern scan meets text, not one repeated letter. There are many bodies per size: no two requests in a row are equal.
"""

import random

import orjson

MODEL = "bench-model"
MARKER = " lorem"  # the text of every streamed event; counting it counts events, however they were serialised again
BODIES = 128

TEXT = (
    "the of and to in is that for it as with was on be by at this from are have not which or an they one had but were "
    "their all there been if more when will would who so no out up into than them can only other new some could time "
    "these two may then do first any my now such like our over man me even most made after also did many before must "
    "through back years where much your way well down should because each just those people how too little state good "
    "very make world still own see men work long get here between both life being under never day same another know "
    "while last might us great old year off come since against go came right used take three server memory graph "
    "query"
)
WORDS = TEXT.split()

ANSWER_TEXT = (
    "A load balancer spreads requests over several servers, so that no one of them is asked to do more than it can. "
    "It watches which servers answer, sends new work to those that have room, and takes failed ones out until "
    "they recover."
)


def prompt(size_bytes: int, rng: random.Random) -> str:
    """Text of exactly `size_bytes` ASCII bytes."""
    words: list[str] = []
    length = 0
    while length < size_bytes:
        words.append(rng.choice(WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)[:size_bytes].ljust(size_bytes, ".")


def chat_bodies(prompt_bytes: int, stream_events: int = 0) -> list[bytes]:
    """`BODIES` request bodies; with `stream_events` they ask for a stream of that many events (as `max_tokens`)."""
    rng = random.Random(prompt_bytes)
    extra = {"stream": True, "max_tokens": stream_events} if stream_events else {"max_tokens": 128}
    return [
        orjson.dumps(
            {
                "model": MODEL,
                "messages": [
                    {"role": "system", "content": "You are a helpful assistant."},
                    {"role": "user", "content": prompt(prompt_bytes, rng)},
                ],
                "temperature": 0.7,
                **extra,
            }
        )
        for _ in range(BODIES)
    ]


def http_request(port: int, key: str, body: bytes) -> bytes:
    """The whole HTTP/1.1 request, as an SDK would send it."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: overhead-bench\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
