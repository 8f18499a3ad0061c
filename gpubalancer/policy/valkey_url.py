"""Where the server of shared budgets is, as `state.budgets` names it.

valkey://user:password@10.0.0.5:6379/0                       one server, or one that stands for a Cluster
valkeys://...                                                the same over TLS
valkey://10.0.0.5:26379,10.0.0.6:26379/0?sentinel=budgets    Sentinels, and what they call the server
"""

from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

PORT, SENTINEL_PORT = 6379, 26379


@dataclass(frozen=True, slots=True)
class Address:
    """How to reach the server.

    Attributes:
        hosts: host and port of the server, or of each Sentinel.
        sentinel: what Sentinels call it; empty where there are none.
        database: its number; 0 in a Cluster.
        user, password: empty where none are asked for.
        tls: over TLS.
    """

    hosts: tuple[tuple[str, int], ...]
    sentinel: str = ""
    database: int = 0
    user: str = ""
    password: str = ""
    tls: bool = False

    def __repr__(self) -> str:
        return f"<Address {self.hosts}{f' for {self.sentinel}' if self.sentinel else ''}>"


def read_address(url: str) -> Address:
    """The address that a URL names.

    Raises:
        ValueError: it names none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("valkey", "valkeys"):
        raise ValueError(f"{parts.scheme!r} is neither valkey nor valkeys")
    secret, _, places = parts.netloc.rpartition("@")
    user, _, password = secret.partition(":")
    sentinel = parse_qs(parts.query).get("sentinel", [""])[0]
    hosts = tuple(_host(place, SENTINEL_PORT if sentinel else PORT) for place in places.split(","))
    if len(hosts) > 1 and not sentinel:
        raise ValueError("several servers, and no ?sentinel=NAME")
    database = parts.path.strip("/") or "0"
    if not (database.isascii() and database.isdigit()):
        raise ValueError(f"{database!r} is no number of a database")
    return Address(hosts, sentinel, int(database), unquote(user), unquote(password), parts.scheme == "valkeys")


def _host(place: str, usual_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname or parts.port == 0:
        raise ValueError(f"{place!r} is no host and port")
    return parts.hostname, parts.port or usual_port
