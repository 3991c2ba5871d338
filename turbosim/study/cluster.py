"""The points of a study on a dask.distributed cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from turbosim.errors import TurbosimError, UsageError
from turbosim.study.evaluate import Done, Evaluator
from turbosim.study.results import needed
from turbosim.study.study import Task
from turbosim.study.version import engine_version

TIMEOUT_S = 5.0
"""For the scheduler to answer."""
BATCH_S = 2.0
"""Points are sent in batches that take about so long."""
LARGEST = 256
"""Points of a batch."""
AHEAD = 2
"""Batches that wait at every thread of the cluster, so that none is without work."""
_ADDRESS = re.compile(r"(?:(?P<scheme>tcp|tls|wss?)://)?(?:\[[^\]\s]+\]|[^:/\[\]\s]+):(?P<port>\d{1,5})")


class ClusterError(TurbosimError):
    """A cluster cannot be used (exit code 1)."""


@dataclass(frozen=True)
class _Batch:
    """Points by place, and what evaluates them."""

    evaluator: Evaluator
    tasks: tuple[tuple[int, Task], ...]

    def __call__(self) -> list[tuple[int, Done]]:
        return [(place, self.evaluator(task)) for place, task in self.tasks]


def _run(batch: _Batch) -> list[tuple[int, Done]]:
    return batch()


def check_address(address: str) -> None:
    """Raise UsageError if no scheduler can listen at *address*."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise UsageError(f"--dask: must be SCHEME://HOST:PORT, SCHEME tcp, tls, ws or wss and PORT 1 to 65535, got "
                         f"{address!r}; write for example tcp://127.0.0.1:8786")
    if found["scheme"] in ("tls", "wss"):
        security = needed("distributed.security", "--dask", "cluster").Security()
        if security.get_connection_args("client").get("ssl_context") is None:
            raise UsageError(f"--dask {address}: {found['scheme']} needs certificates; name them in the configuration "
                             "of dask, distributed.comm.tls")


async def _asked(address: str) -> None:
    """Ask the scheduler at *address* who it is. Raises whatever comes of something else that listens there."""
    distributed = needed("distributed", "--dask", "cluster")
    async with asyncio.timeout(TIMEOUT_S), distributed.rpc(address, timeout=TIMEOUT_S) as scheduler:
        await scheduler.identity()


class Cluster:
    """A connection to the scheduler at an address."""

    def __init__(self, address: str) -> None:
        """Connect. Raises UsageError where dask is missing or *address* is none, ClusterError for an unusable cluster.

        That is one whose scheduler does not answer, that has no workers, or whose worker has another turbosim.
        """
        distributed = needed("distributed", "--dask", "cluster")
        check_address(address)
        self.address = address
        # Their own reports of what is told here in one line; tornado also of calls that Ctrl-C ends.
        for name in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            # A client that fails before it is connected cannot be closed, and complains of that at exit.
            with ThreadPoolExecutor(1) as apart:
                apart.submit(asyncio.run, _asked(address)).result()
            self.client: Any = distributed.Client(address, timeout=TIMEOUT_S, set_as_default=False)
        except Exception as error:
            raise ClusterError(f"--dask {address}: no scheduler answers within {TIMEOUT_S:g} s; start one with `dask "
                               "scheduler`, and workers with `dask worker ADDRESS --nthreads 1 --nworkers N`"
                               ) from error
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        try:
            self.client.wait_for_workers(1, timeout=TIMEOUT_S)
        except TimeoutError:
            raise ClusterError(f"--dask {self.address}: the scheduler has no workers; start some with `dask worker "
                               f"{self.address} --nthreads 1 --nworkers N`") from None
        found = self.client.run(engine_version, on_error="return")
        for worker, version in found.items():
            if isinstance(version, ModuleNotFoundError):
                raise ClusterError(f"--dask {self.address}: worker {worker} lacks turbosim: {version}; install the "
                                   "same version there")
            if version != engine_version():
                raise ClusterError(f"--dask {self.address}: worker {worker} has another turbosim (sources {version}, "
                                   f"here {engine_version()}); install the same version there")

    @property
    def threads(self) -> int:
        """Points that the cluster works on at a time."""
        return sum(self.client.nthreads().values())

    def close(self) -> None:
        """Disconnect; what was sent and is not finished is cancelled."""
        with contextlib.suppress(Exception):
            self.client.close(timeout=TIMEOUT_S)

    def streamed(self, evaluator: Evaluator, tasks: Sequence[Task]) -> Generator[tuple[int, Done | None], None, None]:
        """Yield (place, outcome) of *tasks* as batches are finished, None where a point ends every worker it is on.

        What a lost worker had is done by another one. Raises ClusterError if the scheduler is lost.
        """
        distributed = needed("distributed", "--dask", "cluster")
        left = list(range(len(tasks)))[::-1]
        running = distributed.as_completed(loop=self.client.loop)
        batches: dict[Any, tuple[int, ...]] = {}
        size, taken_s, finished = 1, 0.0, 0
        suspects: list[int] = []
        trial: int | None = None

        def send(places: Sequence[int]) -> None:
            batch = _Batch(evaluator, tuple((place, tasks[place]) for place in places))
            future = self.client.submit(_run, batch, pure=False)
            batches[future] = tuple(places)
            running.add(future)

        try:
            while left or batches or suspects:
                while left and len(batches) < AHEAD * max(1, self.threads):
                    size = max(1, min(size, LARGEST, len(left) // (AHEAD * max(1, self.threads)) or 1))
                    send([left.pop() for _ in range(min(size, len(left)))])
                if not batches:
                    # Dask blames all that a lost worker had been sent: only what is alone is known to have ended it.
                    trial = suspects.pop()
                    send([trial])
                future = next(running)
                places = batches.pop(future)
                try:
                    outcomes = future.result()
                except distributed.KilledWorker:
                    if places == (trial,):
                        yield places[0], None
                    elif len(places) == 1:
                        suspects += places
                    else:
                        for place in places:
                            send([place])
                    continue
                finally:
                    future.release()
                taken_s += sum(done.wall_s for _, done in outcomes)
                finished += len(outcomes)
                size = max(1, int(BATCH_S * finished / max(taken_s, 1e-6)))
                yield from outcomes
        except (OSError, distributed.CancelledError, distributed.client.FutureCancelledError) as error:
            raise ClusterError(f"--dask {self.address}: the scheduler is lost ({type(error).__name__}); the same "
                               "command goes on with what is left") from None
        finally:
            with contextlib.suppress(Exception):
                self.client.cancel(list(batches))
