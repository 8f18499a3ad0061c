"""Reload: what comes into force, what does not, and who waits for whom."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gpubalancer.control.reload import ApplyError, Reload, Reloader, fingerprint
from gpubalancer.policy.load import load
from gpubalancer.policy.schema import Policy

from .policies import TEXT, policy, write

DEADLINE_S = 20.0
OTHER = TEXT.replace("slots: 8", "slots: 9")
BAD = TEXT.replace("slots: 8", "slots: many")


class Workers:
    """Stands for the supervisor: takes policies, or refuses them."""

    def __init__(self) -> None:
        self.taken: list[Policy] = []
        self.refuse: Exception | None = None
        self.told = asyncio.Event()

    async def apply(self, new: Policy) -> None:
        """Take a policy."""
        if self.refuse:
            raise self.refuse
        self.taken.append(new)
        self.told.set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition with a deadline."""
    for _ in range(round(DEADLINE_S / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("the condition did not come true")


def compare(old: Policy, new: Policy) -> Iterator[str]:
    """What changed, for these tests."""
    yield f"slots: {old.backends[0].slots} -> {new.backends[0].slots}"


def reloader(path: Path, workers: Workers, read: Callable[[], Policy] | None = None) -> Reloader:
    """A reloader of a file that is in force already."""
    return Reloader(load(path, {}), read or (lambda: load(path, {})), workers.apply, compare)


def test_a_good_file_comes_into_force(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The workers get the new policy, the pointer moves, and the log says who asked and what changed."""
    caplog.set_level(logging.INFO)
    path = write(tmp_path / "policy.yaml")

    async def main() -> None:
        workers = Workers()
        made = reloader(path, workers)
        write(path, OTHER)
        done = await made.reload("a test")
        assert done == Reload("applied", made.policy.hash, changes=("slots: 8 -> 9",))
        assert workers.taken == [made.policy]
        assert made.policy.backends[0].slots == 9
        assert made.counts == {"applied": 1, "unchanged": 0, "failed": 0}

    asyncio.run(main())
    assert "reload after a test: policy" in caplog.text
    assert "slots: 8 -> 9" in caplog.text


def test_an_equal_file_is_applied_all_the_same(tmp_path: Path) -> None:
    """The result is `unchanged`, but the workers are told: certificates may be new."""
    path = write(tmp_path / "policy.yaml")

    async def main() -> None:
        workers = Workers()
        made = reloader(path, workers)
        before = made.policy.hash
        assert await made.reload("a test") == Reload("unchanged", before)
        assert len(workers.taken) == 1

    asyncio.run(main())


def test_a_bad_file_changes_nothing_and_stays_visible(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The old policy stays, the workers hear nothing, every fault is told until a good file comes."""
    path = write(tmp_path / "policy.yaml")

    async def main() -> None:
        workers = Workers()
        made = reloader(path, workers)
        before = made.policy
        write(path, BAD)
        failed = await made.reload("SIGHUP")
        assert not failed.ok
        assert failed.hash == before.hash
        assert "slots" in failed.faults[0]
        assert f"{path}:" in failed.faults[0]
        assert made.policy is before
        assert workers.taken == []
        assert made.last_failure is failed
        path.unlink()
        missing = await made.reload("SIGHUP")
        assert made.last_failure is missing
        assert "no file" in missing.faults[0]
        write(path)
        assert (await made.reload("SIGHUP")).ok
        assert made.last_failure is None
        assert made.counts == {"applied": 0, "unchanged": 1, "failed": 2}

    asyncio.run(main())
    assert "reload after SIGHUP failed" in caplog.text


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ApplyError("worker 3 did not answer"), "worker 3 did not answer"),
        (TimeoutError(), "the workers did not take the new policy in time"),
        (FileNotFoundError(2, "No such file", "cert.pem"), "[Errno 2] No such file: 'cert.pem'"),
    ],
)
def test_a_policy_that_the_workers_refuse_is_not_in_force(tmp_path: Path, error: Exception, fault: str) -> None:
    """When `apply` fails, the pointer stays and the next reload tries again."""
    path = write(tmp_path / "policy.yaml")

    async def main() -> None:
        workers = Workers()
        made = reloader(path, workers)
        before = made.policy
        write(path, OTHER)
        workers.refuse = error
        failed = await made.reload("a test")
        assert failed == Reload("failed", before.hash, faults=(fault,))
        assert made.policy is before
        workers.refuse = None
        assert (await made.reload("a test")).result == "applied"

    asyncio.run(main())


def test_requests_during_a_reload_share_the_next_one(tmp_path: Path) -> None:
    """Ten who ask while one reload runs get one more between them, and it sees the file as it is then."""
    path = write(tmp_path / "policy.yaml")
    reading, go_on = threading.Semaphore(0), threading.Semaphore(0)
    reads: list[Policy] = []

    def read() -> Policy:
        reads.append(load(path, {}))
        reading.release()
        assert go_on.acquire(timeout=DEADLINE_S)
        return reads[-1]

    async def main() -> None:
        made = reloader(path, Workers(), read)
        first = asyncio.create_task(made.reload("first"))
        assert await asyncio.to_thread(reading.acquire, timeout=DEADLINE_S)
        write(path, OTHER)
        others = [asyncio.create_task(made.reload("another")) for _ in range(10)]
        go_on.release(2)
        assert (await first).result == "unchanged"
        assert {done.result for done in await asyncio.gather(*others)} == {"applied"}
        assert len(reads) == 2

    asyncio.run(main())


def test_one_who_stops_waiting_stops_nothing(tmp_path: Path) -> None:
    """A caller that is cancelled, as when an HTTP client leaves, does not cut a reload in half."""
    path = write(tmp_path / "policy.yaml")

    async def main() -> None:
        workers = Workers()
        made = reloader(path, workers)
        write(path, OTHER)
        running = made.request("a test")
        waiting = asyncio.create_task(made.reload("an HTTP client"))
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert (await running).result == "applied"
        assert made.policy.backends[0].slots == 9

    asyncio.run(main())


def test_a_signal_may_ask(tmp_path: Path) -> None:
    """`request` is fit for a signal handler: SIGHUP reloads."""
    path = write(tmp_path / "policy.yaml")

    async def main() -> None:
        workers = Workers()
        made = reloader(path, workers)
        write(path, OTHER)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, made.request, "SIGHUP")
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(DEADLINE_S):
            await workers.told.wait()
        loop.remove_signal_handler(signal.SIGHUP)
        assert (await made.reload("a test")).ok
        assert made.policy.backends[0].slots == 9

    asyncio.run(main())


def overwrite(path: Path) -> None:
    """As an editor does that writes in place."""
    write(path, OTHER)


def replace(path: Path) -> None:
    """As an editor does that writes aside and renames."""
    write(path.with_suffix(".new"), OTHER).rename(path)


def relink(path: Path) -> None:
    """As Kubernetes does: the name is a link whose target changes."""
    write(path.with_name("v2.yaml"), OTHER)
    link = path.with_name("link")
    link.symlink_to("v2.yaml")
    link.rename(path)


@pytest.mark.parametrize("change", [overwrite, replace, relink])
def test_a_change_of_the_file_is_seen(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """However the file is changed, the watch reloads it."""
    path = tmp_path / "policy.yaml"
    write(tmp_path / "v1.yaml")
    path.symlink_to("v1.yaml")

    async def main() -> None:
        workers = Workers()
        made = reloader(path, workers)
        watching = asyncio.create_task(made.watch(path, fingerprint(path), interval_s=0.005))
        change(path)
        async with asyncio.timeout(DEADLINE_S):
            await until(lambda: made.policy.backends[0].slots == 9)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(main())


def test_a_half_written_file_fails_and_its_rest_heals(tmp_path: Path) -> None:
    """A file caught half way is a failure; when the rest arrives it is read again, without anybody asking."""
    path = write(tmp_path / "policy.yaml")

    async def main() -> None:
        workers = Workers()
        made = reloader(path, workers)
        watching = asyncio.create_task(made.watch(path, fingerprint(path), interval_s=0.005))
        write(path, OTHER[: OTHER.index("slots")])
        async with asyncio.timeout(DEADLINE_S):
            await until(lambda: made.last_failure is not None)
            assert workers.taken == []
            write(path, OTHER)
            await workers.told.wait()
            await until(lambda: made.last_failure is None)
        assert made.policy.backends[0].slots == 9
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(main())


def test_a_change_from_before_the_watch_is_seen(tmp_path: Path) -> None:
    """The fingerprint is of the file that was read, so that a change between reading and watching is not lost."""
    path = write(tmp_path / "policy.yaml")
    before = fingerprint(path)

    async def main() -> None:
        workers = Workers()
        made = reloader(path, workers)
        write(path, OTHER)
        watching = asyncio.create_task(made.watch(path, before, interval_s=0.005))
        async with asyncio.timeout(DEADLINE_S):
            await workers.told.wait()
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching

    asyncio.run(main())


def test_fingerprints_of_states_of_a_file(tmp_path: Path) -> None:
    """A missing file has none; the same file twice has the same."""
    path = tmp_path / "policy.yaml"
    assert fingerprint(path) is None
    policy(tmp_path)
    first = fingerprint(path)
    assert first is not None
    assert fingerprint(path) == first
    write(path, OTHER)
    assert fingerprint(path) != first
