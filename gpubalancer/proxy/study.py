"""Understanding a request's text without holding up other requests.

What is quick is done on the event loop. A body that is large, or made to be slow, is understood in the reader process
(`proxy/reader.py`), because parsing holds the interpreter's lock wherever it runs. Of other bodies, long texts are
counted and scanned in a thread, where the native parts let go of the lock; one that is full of places that detectors
must look at goes to the process, too. One thread and one process serve a worker:
whoever sends such bodies waits for others who do, and nobody else does.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gpubalancer.brain.content import LOOP_BYTES, heavy
from gpubalancer.brain.document import Document, read_document
from gpubalancer.brain.experience import Basis, Counted, Experience, count
from gpubalancer.brain.gist import Owner
from gpubalancer.brain.insight import Insight, note_findings, note_prefix, note_prefix_found, note_unread, texts_of
from gpubalancer.brain.routes import Route
from gpubalancer.brain.sensitivity.scan import Scan
from gpubalancer.brain.tokens.counting import Plan
from gpubalancer.domain.work import Work
from gpubalancer.policy.schema import Policy
from gpubalancer.policy.tenants import Tenant
from gpubalancer.proxy.reader import Reader

T = TypeVar("T")


class Study:
    """Reads one worker's requests, and learns from how they end."""

    def __init__(self, experience: Experience, wall_clock: Callable[[], float], prefix_salt: int | None = None) -> None:
        """What a worker begins with.

        Arguments:
            experience: of earlier lives.
            wall_clock: seconds since 1970, for rules about the time of day.
            prefix_salt: of the table of prefixes; None if there is none.
        """
        self.experience = experience
        self._prefix_salt = prefix_salt
        self._wall_clock = wall_clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="study")
        self._reader = Reader()

    async def read(self, pieces: Sequence[bytes], route: Route, policy: Policy, tenant: Tenant) -> Document:
        """Parse a tenant's body, given in the pieces that it came in; a heavy one is understood as well.

        Raises:
            RequestError: `invalid_json`, `missing_model`, `model_not_found`, `body_too_costly`.
        """
        if len(pieces) == 1 or sum(map(len, pieces)) <= LOOP_BYTES:
            content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if not heavy(content):
                return read_document(content, route)
        return await self._read_apart(pieces, route, policy, tenant)

    async def _read_apart(self, pieces: Sequence[bytes], route: Route, policy: Policy, tenant: Tenant) -> Document:
        owner = None
        if self._prefix_salt is not None:
            owner = Owner(self._prefix_salt, None if policy.routing.prefixes.scope == "all" else tenant.name)
        return await self._reader.read(pieces, route, policy, owner)

    async def understand(
        self,
        work: Work,
        document: Document | None,
        insight: Insight,
        tenant: Tenant,
        policy: Policy,
        fields: Mapping[bytes, bytes],
        *,
        route: Route,
        unread: bool,
    ) -> Basis | None:
        """Fill in what the text decides: tokens, findings, tier, risk, and what the rules make of it all.

        Arguments:
            work: as classified by its head.
            document: the body if it was read.
            insight: of the policy.
            tenant: who asks.
            policy: which has the tiers, and by which a body is read.
            fields: of the head.
            route: what was asked for.
            unread: there is something to read that is not read here.

        Raises:
            RequestError: `tier_not_served`, `injection_refused`, `model_not_allowed`, `body_too_costly`.
        """
        ranks = policy.tier_ranks
        basis: Basis | None = None
        if document is not None:
            plan, counted = await self._count(work, document, insight)
            basis = self.experience.expect(work, document.said, plan, counted)
            scan = await self._scan(document, insight, tenant, policy, route)
            note_findings(work, scan, insight, tenant, ranks)
        elif unread:
            note_unread(work, insight, tenant, ranks)
        insight.rules.apply(work, fields, self._wall_clock())
        return basis

    async def _count(self, work: Work, document: Document, insight: Insight) -> tuple[Plan, Counted]:
        """What the prompt's texts come to, and where its beginnings may have been read before."""
        understood, salt = document.understood, self._prefix_salt
        if understood is not None:
            if salt is not None:
                note_prefix_found(work, understood.beginnings, insight, salt)
            return Plan(understood.known_tokens), understood.extent or ()
        if salt is not None:
            note_prefix(work, document.said, insight, salt)
        plan = insight.book.plan(document.said, work.model)
        return plan, await self._apart(lambda: count(plan)) if plan.unread and plan.counting else count(plan)

    async def _scan(self, document: Document, insight: Insight, tenant: Tenant, policy: Policy, route: Route) -> Scan:
        if document.understood is not None:
            return document.understood.scan
        texts = texts_of(document.said)
        scan = insight.scanner.scan_at_once(texts)
        if scan is None:
            scan = await self._apart(lambda: insight.scanner_apart.scan_apart(texts))
        if scan is not None:
            return scan
        # Whatever such a text is made of, it is made for the detectors.
        elsewhere = await self._read_apart(document.pieces, route, policy, tenant)
        return await self._scan(elsewhere, insight, tenant, policy, route)

    async def _apart(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, step)

    async def close(self) -> None:
        """End the thread and the process; what they do is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self._reader.close()
