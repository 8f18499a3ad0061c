"""Where the balancer listens, what it takes from a client, where it keeps its state: `listen`, `admin`, `state`."""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from gpubalancer.policy.fields import (
    FilePath,
    Part,
    Port,
    Positive,
    Reading,
    Secret,
    SecretReading,
    Timeout,
    size,
    text,
    whole,
)
from gpubalancer.policy.valkey_url import read_address

_HOST_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def is_host(value: str) -> bool:
    """True for an IP address (IPv6 without brackets) or a host name in ASCII."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        labels = value.removesuffix(".").split(".")
        # A last label of digits only is a mistyped IPv4 address, never a name (WHATWG URL, "ends in a number").
        return len(value) <= 253 and all(map(_HOST_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
    return "%" not in value


def is_loopback(host: str) -> bool:
    """True if only this machine can reach what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read_workers(value: object) -> int | str:
    if value == "auto":
        return "auto"
    try:
        return int(whole(1, 1024).read(value))
    except ValueError:
        raise ValueError("a whole number from 1 to 1024, or auto for one per core") from None


def _is_server_url(value: str, scheme: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme == scheme and bool(parts.hostname) and parts.port != 0 and value.isprintable()
    except ValueError:
        return False


def _is_valkey_url(value: str) -> bool:
    try:
        read_address(value)
    except ValueError:
        return False
    return value.isprintable()


def _store(default: str, is_url: Callable[[str], bool], example: str) -> SecretReading:
    """A word for what is built in, or a server's URL. The URL may hold a password, so it is kept as a secret."""
    expected = f"{default}, or a URL such as {example}"

    def read(value: object) -> SecretStr:
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        if plain != default and not (isinstance(plain, str) and is_url(plain)):
            raise ValueError(expected)
        return SecretStr(str(plain))

    return SecretReading(expected, read, {"type": "string"}, is_secret=True)


Host = Annotated[str, text("an IP address or a host name", is_host)]
Workers = Annotated[
    int | Literal["auto"],
    Reading(
        "a whole number of at least 1, or auto", _read_workers, {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    ),
]


class ServerTls(Part):
    """Certificate and key come together."""

    certificate: FilePath | None = Field(default=None, description="PEM file with the certificate and its chain.")
    key: FilePath | None = Field(default=None, description="PEM file with the certificate's private key.")
    client_ca: FilePath | None = Field(
        default=None, description="PEM file with the authorities whose client certificates are demanded."
    )


class Limits(Part):
    """What one client may make the balancer hold or wait for."""

    head_bytes: Annotated[int, size(1024)] = Field(default=32 << 10, description="Largest request head.")
    header_count: Positive = Field(default=128, description="Most header lines of a request.")
    target_bytes: Annotated[int, size(64)] = Field(
        default=8 << 10, description="Longest request target (path and query)."
    )
    body_bytes: Annotated[int, size(1)] = Field(
        default=32 << 20, description="Largest body that is read for its model and prompt."
    )
    upload_bytes: Annotated[int, size(1)] = Field(
        default=1 << 30, description="Largest body that passes through unread."
    )
    connections: Positive = Field(default=10_000, description="Most client connections at once, over all workers.")
    pipelined: Positive = Field(
        default=32, description="Most requests that one connection may send ahead of the answers."
    )
    head_timeout_s: Timeout = Field(
        default=10.0, alias="head_timeout", description="Longest wait for a whole request head."
    )
    body_timeout_s: Timeout = Field(
        default=60.0, alias="body_timeout", description="Longest wait for the next bytes of a request's body."
    )
    idle_timeout_s: Timeout = Field(
        default=300.0, alias="idle_timeout", description="How long a connection without a request is kept."
    )
    write_timeout_s: Timeout = Field(
        default=30.0,
        alias="write_timeout",
        description="A client that takes nothing of its answer for so long is dropped.",
    )
    drain_timeout_s: Timeout = Field(
        default=30.0,
        alias="drain_timeout",
        description="How long requests in flight may go on after a stop was asked for.",
    )


class Listen(Part):
    """The data port: where clients send their requests."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on; `0.0.0.0` or `::` for all.")
    port: Port = Field(default=8080, description="TCP port; 0 takes a free one.")
    workers: Workers = Field(
        default=1, description="Processes that serve requests: a number, or `auto` for one per core."
    )
    tls: ServerTls | None = Field(default=None, description="Serve HTTPS.")
    limits: Limits = Field(default=Limits(), description="What one client may make the balancer hold or wait for.")

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the data port."""
        return is_loopback(self.host)

    def worker_count(self, cores: int) -> int:
        """How many workers to start on a machine with so many cores."""
        return cores if isinstance(self.workers, str) else self.workers


class Admin(Part):
    """The admin port: metrics, health, admin API."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on.")
    port: Port = Field(default=8081, description="TCP port; 0 takes a free one.")
    token: Secret = Field(
        default=None, description="Bearer token that the admin port demands; required unless `host` is loopback."
    )

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the admin port."""
        return is_loopback(self.host)


class State(Part):
    """What outlives the processes. The two stores are secrets, because their URLs may hold a password."""

    directory: FilePath = Field(
        default=Path("state"), description="Folder of the board, the journal and the SQLite ledger."
    )
    budgets: Annotated[SecretStr, _store("local", _is_valkey_url, "valkey://10.0.0.5:6379/0")] = Field(
        default=SecretStr("local"),
        description="Where budgets are counted: `local`, or on a Valkey or Redis server that several balancers share: "
        "`valkey://user:password@host:port/db`, `valkeys://` over TLS, "
        "`valkey://sentinel:26379,sentinel:26379/db?sentinel=NAME` where Sentinels know it. Needs the `redis` extra.",
    )
    budgets_outage: Literal["refuse", "share"] = Field(
        default="refuse",
        description="What requests with budgets get while that server can't be reached: `refuse`, or `share`: each "
        "worker goes on with its equal share of what was left when the server last told.",
    )
    ledger: Annotated[
        SecretStr,
        _store("sqlite", lambda url: _is_server_url(url, "postgresql"), "postgresql://user@10.0.0.5/gpubalancer"),
    ] = Field(
        default=SecretStr("sqlite"),
        description="Where usage is kept: `sqlite` in the directory, or a `postgresql://` URL.",
    )
    journal_full: Literal["refuse", "serve"] = Field(
        default="refuse",
        description="When there is no room to record requests: `refuse` new ones, or `serve` them and lose records.",
    )

    @property
    def budgets_url(self) -> str | None:
        """The Valkey server's URL, or None when budgets are counted on this machine."""
        url = self.budgets.get_secret_value()
        return None if url == "local" else url

    @property
    def ledger_url(self) -> str | None:
        """The PostgreSQL server's URL, or None for SQLite in the state directory."""
        url = self.ledger.get_secret_value()
        return None if url == "sqlite" else url
