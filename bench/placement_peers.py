"""Who takes part in bench/placement.py: one row each, for engines on given ports."""

from collections.abc import Sequence

from bench.fleets import Simulated, policy_text
from bench.peers import OURS, Contestant

LEAST, ROBIN = "least in flight", "round robin"
BALANCE = {LEAST: "least_conn;", ROBIN: ""}
"""What nginx calls them; both go by weight, which is the backend's slots."""


def fleet_values(fleet: Sequence[Simulated], ports: Sequence[int], ttft_s: float, tpot_s: float) -> dict[str, str]:
    """What the configurations may name of the fleet."""
    pairs = zip(fleet, ports, strict=True)
    return {
        "servers": "\n        ".join(f"server 127.0.0.1:{port} weight={each.slots};" for each, port in pairs),
        "policy": policy_text(fleet, ports, ttft_s, tpot_s),
    }


def _router(ports: Sequence[int], extra: str) -> tuple[str, ...]:
    return (
        *("--host", "127.0.0.1", "--port", "$port", "--prometheus-host", "127.0.0.1"),
        *("--prometheus-port", "$admin_port", "--worker-urls", *(f"http://127.0.0.1:{port}" for port in ports)),
        *extra.split(),
    )


def ours() -> Contestant:
    """Our own, with an SLO."""
    return Contestant(
        name=OURS,
        program="",
        arguments=("-m", "gpubalancer", "serve", "--config", "$config"),
        distribution="gpubalancer",
        config="placement-gpubalancer.yaml",
        settings="`routing.slo` set, class and slots of each backend named, all else by default; one worker",
    )


def baseline(name: str) -> Contestant:
    """Nginx with one of its simple ways to choose."""
    return Contestant(
        name=name,
        program="nginx",
        arguments=("-p", "$folder", "-c", "$config", "-e", "stderr"),
        version=("-v",),
        config="placement-nginx.conf",
        settings=f"nginx, {BALANCE[name].rstrip(';') or 'its default'}, `weight` is the backend's slots",
    )


P2C, LEAST_REQUESTS = "--policy power_of_two", "--policy power_of_two --power-of-two-load-metric least_requests"
LEAST_LOAD = "--policy least_load --load-monitor-interval 1"
CAPPED = tuple(f" --max-concurrent-requests {cap} --queue-size 100 --queue-timeout-secs 1" for cap in (40, 80, 160))
VARIANTS: dict[str, tuple[str, ...]] = {
    "vllm-router": (
        P2C,
        "--policy cache_aware --balance-abs-threshold 4 --balance-rel-threshold 1.1",
        *(P2C + capped for capped in CAPPED),
    ),
    "smg": (
        LEAST_LOAD,
        f"{LEAST_LOAD} --worker-overload-shed --worker-overload-waiting-requests 1",
        LEAST_REQUESTS,
        *(LEAST_REQUESTS + capped for capped in CAPPED),
    ),
}
"""Settings that are tried of each router: its policies by load, without and with its own queue and shedding. The caps
go from a third to one and a half times of what is in flight where the fleet is full."""


def peer(name: str, variant: str, ports: Sequence[int]) -> Contestant:
    """A router with one of its variants."""
    launch = ("launch",) if name == "smg" else ()
    always = "--log-level error --disable-circuit-breaker" + (" --backend vllm" if name == "smg" else "")
    return Contestant(
        name=name,
        program=name,
        arguments=(*launch, *_router(ports, f"{variant} {always}")),
        distribution=name,
        settings=f"`{variant}`",
    )
