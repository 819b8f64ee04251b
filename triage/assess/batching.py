"""Films that wait at the same time go through the network together."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from triage.assess.engine import Engine

Batch = npt.NDArray[np.float32]


@dataclass
class _Waiting:
    film: Batch
    done: threading.Event = field(default_factory=threading.Event)
    logits: Batch | None = None
    error: Exception | None = None


class BatchedEngine:
    """An engine whose concurrent callers share a pass: who gets the network takes along all who wait."""

    batches = True

    def __init__(self, engine: Engine, max_batch: int, max_wait: float = 0) -> None:
        """Take at most `max_batch` films in a pass, and wait `max_wait` seconds for it to fill: 0 never."""
        self.name = engine.name
        self._engine = engine
        self._max = max_batch
        self._waiting: list[_Waiting] = []
        self._max_wait = max_wait
        self._lock = threading.Condition()
        self._running = threading.Lock()

    def infer(self, batch: Batch) -> Batch:
        """Return the logits of the batch's films; see `Engine.infer`."""
        mine = [_Waiting(film) for film in batch]
        with self._lock:
            self._waiting += mine
            self._lock.notify_all()
        for item in mine:
            while not item.done.is_set():
                with self._running:
                    if not item.done.is_set():
                        self._run()
            if item.error is not None:
                raise item.error
        return np.stack([item.logits for item in mine if item.logits is not None])

    def _run(self) -> None:
        with self._lock:
            if self._max_wait:
                self._lock.wait_for(lambda: len(self._waiting) >= self._max, self._max_wait)
            taken, self._waiting = self._waiting[: self._max], self._waiting[self._max :]
        try:
            logits = self._engine.infer(np.stack([item.film for item in taken]))
            for item, row in zip(taken, logits, strict=True):
                item.logits = row
        except Exception as error:  # noqa: BLE001 - handed to every caller whose film was in the pass
            for item in taken:
                item.error = error
        finally:
            for item in taken:
                item.done.set()
