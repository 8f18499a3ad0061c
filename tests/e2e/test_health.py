"""A backend that dies is found out by its workers, and comes back by a probe; one that only looks ill is used."""

from contextlib import ExitStack
from pathlib import Path

from tests.e2e.backends import Call, answer_ok, backend, whole
from tests.e2e.clients import ask, chat
from tests.e2e.processes import eventually, serving


def test_a_dead_backend_is_down_after_one_request_and_one_probe(tmp_path: Path) -> None:
    """Though the next regular probe is a minute away; no request fails for it."""
    with backend(answer_ok) as alive, ExitStack() as life:
        dying = life.enter_context(backend(answer_ok))
        backends = [alive.settings("alive"), dying.settings("dying")]
        with serving(tmp_path, backends, telemetry={"probe_interval": "60s"}) as balancer:
            eventually(lambda: balancer.metric("gpubalancer_backend_up") == 2, "both to be up")
            life.close()
            names = {ask(balancer.port, body=chat()).fields["x-gpubalancer-backend"] for _ in range(10)}
            assert names == {"alive"}
            eventually(lambda: balancer.metric("gpubalancer_backend_up") == 1, "the dead one to be seen", within_s=5.0)
            assert balancer.metric("gpubalancer_backend_up", "alive") == 1


def test_a_backend_whose_probes_fail_is_used_where_too_few_are_left(tmp_path: Path) -> None:
    """It takes connections and serves: an overloaded engine that answers probes with errors is better than none."""
    with backend(refusing_probes) as server:
        settings = [server.settings("ill", engine="triton", apis=["chat"])]
        with serving(tmp_path, settings, telemetry={"probe_interval": "100ms"}) as balancer:
            eventually(lambda: balancer.metric("gpubalancer_backend_up") == 0, "the probes to fail")
            assert ask(balancer.port, body=chat()).status == 200


async def refusing_probes(call: Call) -> None:
    """Serve, and answer what asks for health with 503."""
    await call.body()
    if call.line.startswith("GET"):
        await call.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    else:
        await call.send(whole(b'{"ok": true}'))
