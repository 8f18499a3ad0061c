"""What one request asks for, as far as it decides where it may go."""

from dataclasses import dataclass


@dataclass(slots=True)
class Work:
    """One request, classified. Made once, before anything is decided."""

    api: str
    model: str | None
    """The public name, after aliases; None where the request names none and any backend of the API will do."""
    tier: int
    """Rank of the tier, 0 for the lowest: backends of a lower clearance never see the request."""
    streamed: bool
    deadline_s: float
    """Instant by which an answer must have begun; infinity where the client set none."""
    claim: str | None = None
    """The path, where only a backend that claims it may serve the request."""
    sent_name: str | None = None
    """The model's name where it can't be changed on the way (uploads, paths): only backends that know it by this name
    can serve the request."""
    upgrade: bool = False
    """The client asks for another protocol on a path that allows it."""
    kinds: frozenset[str] | None = None
    """Kinds of backend that the tenant may use; None for all."""
    labels: frozenset[tuple[str, str]] = frozenset()
    """Labels that a backend must carry to serve the tenant."""
