"""Processes that learn one network together: each has a part of every batch, all have the mean gradient.

On a processor two processes of one thread each are faster than one with two threads, the more so where
other programs want the cores: nobody waits for a thread that does not run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed as dist

from triage.errors import TrainingFailed, TriageError

_HERE = "127.0.0.1"
#: The first process judges and writes while the others wait; nobody waits longer than this.
_PATIENCE = timedelta(hours=2)
_LOST = "A process of the training has ended unexpectedly; go on with --resume."


@dataclass(frozen=True)
class Team:
    """One process among `size`; the first, of rank 0, judges and writes, and all learn the same."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that judges and writes."""
        return self.rank == 0

    def mean(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its mean over the processes, the same in all of them.

        Raises:
            TrainingFailed: another process has ended.
        """
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self._exchange(dist.all_reduce, flat)
        flat /= self.size
        start = 0
        for tensor in tensors:
            end = start + tensor.numel()
            tensor.copy_(flat[start:end].view_as(tensor))
            start = end

    def take(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by that of the first process.

        Raises:
            TrainingFailed: another process has ended.
        """
        for tensor in tensors if self.size > 1 else ():
            given = tensor.contiguous()
            self._exchange(dist.broadcast, given, 0)
            tensor.copy_(given)

    def told(self, values: tuple[float, ...]) -> list[float]:
        """Return the values of the first process; the others' own are ignored.

        Raises:
            TrainingFailed: another process has ended.
        """
        shared = torch.tensor(values, dtype=torch.float64)
        if self.size > 1:
            self._exchange(dist.broadcast, shared, 0)
        return [float(value) for value in shared]

    def _exchange(self, operation: Callable[..., Any], *given: Any) -> None:
        try:
            operation(*given)
        except RuntimeError as error:
            raise TrainingFailed(_LOST) from error


ALONE = Team()


def processes_for(wanted: int, device: torch.device) -> int:
    """Return how many processes learn: one for a GPU, else as many as wanted and no more than cores."""
    return min(wanted, os.cpu_count() or 1) if device.type == "cpu" else 1


@contextmanager
def leading(size: int, work: Callable[..., None], *given: Any) -> Iterator[Team]:
    """Give the first member of a team; the others run `work(team, *given)` in processes of their own.

    Those end with this one, however it ends.

    Raises:
        TrainingFailed: one of them could not start.
    """
    if size == 1:
        yield Team()
        return
    store = dist.TCPStore(_HERE, 0, size, is_master=True, wait_for_workers=False)
    spawn = multiprocessing.get_context("spawn")
    others = [
        spawn.Process(target=_follow, args=(Team(rank, size), store.port, work, given), daemon=True)
        for rank in range(1, size)
    ]
    for other in others:
        other.start()
    try:
        for rank, other in enumerate(others, 1):
            _wait_for(store, _ready(rank), other)
        _join(store, Team(0, size))
        yield Team(0, size)
        for other in others:
            other.join()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        for other in others:
            other.terminate()
            other.join()


def _ready(rank: int) -> str:
    return f"ready-{rank}"


def _wait_for(store: dist.TCPStore, key: str, other: BaseProcess) -> None:
    while not store.check([key]):
        other.join(0.1)
        if not other.is_alive():
            raise TrainingFailed(_LOST)


def _join(store: dist.TCPStore, team: Team) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=store, rank=team.rank, world_size=team.size, timeout=_PATIENCE)


def _follow(team: Team, port: int, work: Callable[..., None], given: tuple[Any, ...]) -> None:
    """Work as one of the others; end at once when the first process is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    store = dist.TCPStore(_HERE, port, team.size, is_master=False)
    store.set(_ready(team.rank), "")
    _join(store, team)
    try:
        work(team, *given)
    except TriageError:
        # the first process has met the same, or ended; its sentence is the one to show
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
