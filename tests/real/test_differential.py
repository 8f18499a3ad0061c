"""The same bytes to nginx and to us, each in front of a recording backend of its own.

nginx is a second reading of HTTP by other people. Where it refuses and we accept, a table must say why that is right;
where both accept, the backends must have seen the same method, target and body.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.attack.arena import Arena, balancer_arena
from tests.attack.balancer import START_DEADLINE_S, free_ports, stop
from tests.attack.cases import CASES
from tests.attack.client import Exchange, exchange, pacing
from tests.attack.recorder import EchoProtocol, Records, serving

pytestmark = pytest.mark.real

_TAB = "a tab is optional whitespace too (RFC 9110 5.6.3)"
# Requests by name that nginx refuses and we serve, and why that is right.
WE_ACCEPT: Mapping[str, str] = {
    "length with spaces around": _TAB,
    "Host spaces around": _TAB,
}

_CONFIG = """
{user} daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/errors;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    client_header_timeout 2s; client_body_timeout 2s; client_max_body_size 1m; large_client_header_buffers 4 32k;
    keepalive_requests 1000000;
    upstream recorder {{ server 127.0.0.1:{backend_port} max_fails=0; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://recorder; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


@contextmanager
def nginx_arena(directory: Path) -> Iterator[Arena]:
    """An arena around the system's nginx."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None, "nginx is not installed: apt-get install nginx-light"
    records = Records()
    (port,) = free_ports(1)
    with serving([lambda: EchoProtocol(records)]) as (backend_port,):
        user = "user root;" if os.geteuid() == 0 else ""
        path = directory / "nginx.conf"
        path.write_text(_CONFIG.format(user=user, directory=directory, backend_port=backend_port, port=port))
        process = subprocess.Popen([program, "-p", str(directory), "-c", str(path)], stderr=subprocess.DEVNULL)
        try:
            _wait_listening(process, port)
            yield Arena(port, records)
        finally:
            stop(process)


def _wait_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline_s = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline_s, "nginx does not listen"
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError("nginx ended")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Exchange, Exchange]]:
    """Every row's exchange with nginx and with us."""
    with nginx_arena(tmp_path_factory.mktemp("nginx")) as arena:
        theirs = asyncio.run(_send_all(arena))
    with balancer_arena(tmp_path_factory.mktemp("ours")) as arena:
        ours = asyncio.run(_send_all(arena))
    return {case.name: (theirs[case.name], ours[case.name]) for case in CASES}


def test_what_only_we_accept_has_a_reason(pairs: dict[str, tuple[Exchange, Exchange]]) -> None:
    """A request that nginx refuses and we serve stands in the table, and nothing else stands there."""
    refused = {name: ours for name, (theirs, ours) in pairs.items() if theirs.statuses[:1] not in ((200,), (502,))}
    only_ours = {name for name, ours in refused.items() if _accepted(ours)}
    assert only_ours == set(WE_ACCEPT)


def test_backends_see_the_same_of_what_both_accept(pairs: dict[str, tuple[Exchange, Exchange]]) -> None:
    """Method, target and body at the backend are the same through nginx and through us."""
    both = {name: pair for name, pair in pairs.items() if all(_accepted(result) for result in pair)}
    del both["models are listed here"]  # answered by the balancer itself
    differences = {
        name: (_told(theirs), _told(ours)) for name, (theirs, ours) in both.items() if _told(theirs) != _told(ours)
    }
    print(f"\n{len(pairs)} sent, {len(both)} accepted by both")
    assert differences == {}
    assert len(both) > 100


def test_we_refuse_whatever_nginx_lets_through_uncanonical(pairs: dict[str, tuple[Exchange, Exchange]]) -> None:
    """What the recording backend would not take from nginx (its 502) we refuse at the door, as the client's fault."""
    uncanonical = {name: ours for name, (theirs, ours) in pairs.items() if theirs.statuses[:1] == (502,)}
    served = {name for name, ours in uncanonical.items() if ours.statuses and ours.statuses[0] >= 500}
    assert len(uncanonical) > 20
    assert served == set()


async def _send_all(arena: Arena) -> dict[str, Exchange]:
    """Every row; its first answer, or the close, is waited for."""
    results: dict[str, Exchange] = {}
    waiting = iter(CASES)

    async def lane() -> None:
        async with pacing(arena.port, arena.claimed) as pacer:
            for case in waiting:
                results[case.name] = await exchange(pacer, [case.raw], methods=case.methods, wanted=1)

    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(lane())
    return results


def _accepted(result: Exchange) -> bool:
    return result.statuses[:1] == (200,)


def _told(result: Exchange) -> list[Any]:
    """Method, target and body of the first request, as its backend saw them."""
    body = result.answers[0].body
    told: dict[str, Any] = json.loads(body) if body else {}
    return [told.get(key) for key in ("method", "target", "body_sha256")]
