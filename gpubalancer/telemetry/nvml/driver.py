"""The driver, opened and closed as often as need be, and its cards.

A call of the library may take seconds while the driver is busy, and so may every method here: call them from a thread
that may wait. All but `wait_events`, which has a thread of its own, belong to one thread. Handles last as long as the
driver is open; a card is known by its UUID.
"""

import ctypes
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pynvml  # type: ignore[import-untyped]  # ships no types

from gpubalancer.telemetry.nvml.calls import (
    AbsentError,
    CardLostError,
    DriverGoneError,
    NoDriverError,
    ask,
    quietly,
)
from gpubalancer.telemetry.nvml.readings import OF_A_CARD, READINGS, Way

DOUBLE_BIT_XID = 48
"""The XID that a double-bit ECC event stands for."""
MIG_ENABLED = 1
CLOSE_S = 1.0
"""How long closing waits for the thread in `wait_events`; a driver that hangs is left as it is."""

_PROFILE = re.compile(r"\bMIG (\S+)")
_ADDRESS = ctypes.c_void_p


@dataclass(eq=False, slots=True)
class Card:
    """One GPU or MIG instance while the driver is open. Without a handle: it was lost when that was opened."""

    handle: Any
    index: int
    uuid: str
    name: str = ""
    mig: str | None = None
    parent: "Card | None" = None
    unsupported: set[Way] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Told:
    """An XID that the driver told of a card."""

    uuid: str
    xid: int


class Nvml:
    """The driver, opened and closed as often as need be.

    Attributes:
        driver: its version while open.
        cards: whole GPUs, in the order of their index.
        calls: readings asked since the beginning, failed ones too.
    """

    def __init__(self) -> None:
        self.driver: str | None = None
        self.cards: list[Card] = []
        self.calls = 0
        self._instances: dict[str, Card] = {}
        self._events: Any = None
        self._in_events = threading.Lock()
        self._closing = False

    def open(self) -> None:
        """Load the library, find the cards, listen to their errors. Raises: NoDriverError."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NoDriverError(str(error)) from error
        try:
            self.driver = self._said(pynvml.nvmlSystemGetDriverVersion)
            self.cards = [self._card(index) for index in range(ask(pynvml.nvmlDeviceGetCount))]
            self._listen()
        except (DriverGoneError, CardLostError, AbsentError) as error:
            self.close()
            raise NoDriverError(str(error.__cause__ or error)) from error

    def close(self) -> None:
        """Let go of everything; `open` may follow. Nothing is raised: a dead driver can't be closed better."""
        self._closing = True
        free = self._in_events.acquire(timeout=CLOSE_S)
        try:
            if free:
                quietly(pynvml.nvmlEventSetFree, self._events)
            self._events = None
        finally:
            if free:
                self._in_events.release()
            self._closing = False
        quietly(pynvml.nvmlShutdown)
        self.cards, self._instances, self.driver = [], {}, None

    def read(self, card: Card, names: Sequence[str] = OF_A_CARD) -> dict[str, object]:
        """What a card says to these rows of `READINGS`. Raises: CardLostError, DriverGoneError."""
        said: dict[str, object] = {}
        for name in names:
            said |= self._first(card, READINGS[name])
        return said

    def instances(self, card: Card) -> list[Card]:
        """The MIG instances of a card; none where it has no MIG or MIG is off."""
        try:
            mode, _ = ask(pynvml.nvmlDeviceGetMigMode, card.handle)
            count = ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, card.handle) if mode == MIG_ENABLED else 0
        except AbsentError:
            return []
        return [instance for index in range(count) if (instance := self._instance(card, index))]

    def wait_events(self, timeout_s: float) -> list[Told] | None:
        """Errors that the driver tells, waiting for the first; none if the time is over.

        None instead of a list: there is nobody to tell any, now; come back later.
        """
        if self._closing or not self._in_events.acquire(blocking=False):
            return None
        try:
            if self._events is None:
                return None
            data = pynvml.nvmlEventSetWait_v2(self._events, int(timeout_s * 1000))
            uuid = self._uuid_of(data.device)
            return [Told(uuid, _xid(data))] if uuid else []
        except pynvml.NVMLError as error:
            return [] if error.value == pynvml.NVML_ERROR_TIMEOUT else None
        finally:
            self._in_events.release()

    def _first(self, card: Card, ways: Sequence[Way]) -> Mapping[str, object]:
        """The answer of the first way that the card knows; empty if it gives none."""
        for way in ways:
            if way in card.unsupported:
                continue
            self.calls += 1
            try:
                return way(card.handle)
            except AbsentError as absent:
                if not absent.forever:
                    return {}
                card.unsupported.add(way)
        return {}

    def _said(self, call: Callable[..., Any], *arguments: object) -> str:
        """A text, empty if there is none."""
        try:
            return str(ask(call, *arguments))
        except AbsentError:
            return ""

    def _card(self, index: int) -> Card:
        try:
            handle = ask(pynvml.nvmlDeviceGetHandleByIndex, index)
            uuid = ask(pynvml.nvmlDeviceGetUUID, handle)
            return Card(handle, index, uuid, self._said(pynvml.nvmlDeviceGetName, handle))
        except (CardLostError, AbsentError):
            return Card(None, index, "")

    def _instance(self, card: Card, index: int) -> Card | None:
        try:
            handle = ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, card.handle, index)
            uuid = ask(pynvml.nvmlDeviceGetUUID, handle)
            known = self._instances.get(uuid)
            if known is None:
                name = self._said(pynvml.nvmlDeviceGetName, handle)
                known = Card(handle, index, uuid, name, _profile(handle, name), card)
                self._instances[uuid] = known
        except AbsentError:
            return None
        known.handle = handle
        return known

    def _listen(self) -> None:
        """Register for the errors of every card that tells them."""
        events = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError
        try:
            self._events = ask(pynvml.nvmlEventSetCreate)
        except AbsentError:
            return
        listening = False
        for card in self.cards:
            if card.handle is None:
                continue
            try:
                able = ask(pynvml.nvmlDeviceGetSupportedEventTypes, card.handle)
                ask(pynvml.nvmlDeviceRegisterEvents, card.handle, able & events, self._events)
                listening = True
            except (AbsentError, CardLostError):
                continue
        if not listening:
            quietly(pynvml.nvmlEventSetFree, self._events)
            self._events = None

    def _uuid_of(self, handle: Any) -> str:
        """The card of an event, by its handle: a lost one can't be asked for its name. Empty if it is none of ours."""
        address = ctypes.cast(handle, _ADDRESS).value
        return next((card.uuid for card in self.cards if _is_at(card.handle, address)), "")


def _is_at(handle: Any, address: int | None) -> bool:
    return handle is not None and ctypes.cast(handle, _ADDRESS).value == address


def _xid(data: Any) -> int:
    return DOUBLE_BIT_XID if data.eventType == pynvml.nvmlEventTypeDoubleBitEccError else int(data.eventData)


def _profile(handle: Any, name: str) -> str:
    """A MIG instance's profile as NVIDIA writes it, from its name or from its size."""
    found = _PROFILE.search(name)
    if found:
        return found[1]
    try:
        sizes = ask(pynvml.nvmlDeviceGetAttributes_v2, handle)
    except AbsentError:
        return "unknown"
    return f"{sizes.gpuInstanceSliceCount}g.{round(sizes.memorySizeMB / 1024)}gb"
