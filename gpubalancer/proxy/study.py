"""Understanding a request's text without holding up other requests.

What is quick is done on the event loop; a body that is large, or made to be slow, is read, counted and scanned in a
thread, where the native parts let go of the interpreter's lock. One thread serves a worker: whoever sends such bodies
waits for others who do, and nobody else does.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gpubalancer.brain.content import heavy
from gpubalancer.brain.document import Document, read_document
from gpubalancer.brain.experience import Basis, Counted, Experience, count
from gpubalancer.brain.insight import Insight, note_findings, note_prefix, note_unread, texts_of
from gpubalancer.brain.routes import Route
from gpubalancer.brain.sensitivity.scan import Scan
from gpubalancer.brain.tokens.counting import Plan
from gpubalancer.domain.work import Work
from gpubalancer.policy.tenants import Tenant

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

    async def read(self, content: bytes, route: Route) -> Document:
        """Parse a body.

        Raises:
            RequestError: `invalid_json`, `missing_model`.
        """
        if heavy(content):
            return await self._apart(lambda: read_document(content, route))
        return read_document(content, route)

    async def understand(
        self,
        work: Work,
        document: Document | None,
        insight: Insight,
        tenant: Tenant,
        ranks: Mapping[str, int],
        fields: Mapping[bytes, bytes],
        *,
        unread: bool,
    ) -> Basis | None:
        """Fill in what the text decides: tokens, findings, tier, risk, and what the rules make of it all.

        Arguments:
            work: as classified by its head.
            document: the body if it was read.
            insight: of the policy.
            tenant: who asks.
            ranks: rank of each tier.
            fields: of the head.
            unread: there is something to read that is not read here.

        Raises:
            RequestError: `tier_not_served`, `injection_refused`, `model_not_allowed`.
        """
        basis: Basis | None = None
        if document is not None:
            plan, counted = await self._count(work, document, insight)
            basis = self.experience.expect(work, document.said, plan, counted)
            note_findings(work, await self._scan(document, insight), insight, tenant, ranks)
        elif unread:
            note_unread(work, insight, tenant, ranks)
        insight.rules.apply(work, fields, self._wall_clock())
        return basis

    async def _count(self, work: Work, document: Document, insight: Insight) -> tuple[Plan, Counted]:
        """What the prompt's texts come to; both steps in the thread if there are many, the second if one is long."""
        if heavy(document.content):
            return await self._apart(lambda: self._plan_and_count(work, document, insight))
        self._note_prefix(work, document, insight)
        plan = insight.book.plan(document.said, work.model)
        return plan, await self._apart(lambda: count(plan)) if plan.unread and plan.counting else count(plan)

    def _plan_and_count(self, work: Work, document: Document, insight: Insight) -> tuple[Plan, Counted]:
        self._note_prefix(work, document, insight)
        plan = insight.book.plan(document.said, work.model)
        return plan, count(plan)

    def _note_prefix(self, work: Work, document: Document, insight: Insight) -> None:
        if self._prefix_salt is not None:
            note_prefix(work, document.said, insight, self._prefix_salt)

    async def _scan(self, document: Document, insight: Insight) -> Scan:
        texts = texts_of(document.said)
        scan = insight.scanner.scan_at_once(texts)
        return scan if scan is not None else await self._apart(lambda: insight.scanner_apart.scan(texts))

    async def _apart(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, step)

    def close(self) -> None:
        """End the thread; what it does is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
