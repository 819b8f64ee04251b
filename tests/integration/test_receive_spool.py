"""What the spool promises when the same object comes twice: the file that has the name is on the disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.unit.receive.objects import claim, film
from triage.receive.spool import Spool, SpoolFile
from triage.receive.verdict import Refused, Status


class Race:
    """Lets two threads name their files at once; the later one reaches the disk once the earlier is done."""

    def __init__(self, monkeypatch) -> None:
        self.synced: set[int] = set()
        self.first_is_done = threading.Event()
        self._together = threading.Barrier(2)
        self._lock = threading.Lock()
        self._order: list[int] = []
        self._fsync = os.fsync
        monkeypatch.setattr("os.rename", self._naming(os.rename))
        monkeypatch.setattr("os.link", self._naming(os.link))
        monkeypatch.setattr("os.fsync", self._sync)

    def _naming(self, real: Callable[..., None]) -> Callable[..., None]:
        def name(*arguments: Any, **more: Any) -> None:
            self._together.wait(20)
            try:
                with self._lock:
                    self._order.append(threading.get_ident())
                    real(*arguments, **more)
            finally:
                self._together.wait(20)

        return name

    def _sync(self, descriptor: int) -> None:
        if threading.get_ident() == self._order[1]:
            self.first_is_done.wait(20)
        self._fsync(descriptor)
        self.synced.add(os.fstat(descriptor).st_ino)


def test_of_the_same_object_twice_at_once_each_answer_vouches_for_a_file_on_the_disk(tmp_path, monkeypatch):
    spool = Spool(tmp_path)
    race = Race(monkeypatch)

    def bring(file: SpoolFile) -> bool:
        relative = file.publish()
        # After a power cut a name is worth nothing whose file never reached the disk.
        on_disk = spool.path(relative).stat().st_ino in race.synced
        race.first_is_done.set()
        return on_disk

    files = [spool.open(claim(), "PACS") for _ in range(2)]
    for file in files:
        file.write(memoryview(film()))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(bring, files)) == [True, True]
    assert len(list(spool.published())) == 1
    assert not any((tmp_path / "incoming").iterdir())
    spool.close()


def test_a_file_that_is_purged_while_its_object_comes_again_is_asked_for_again(tmp_path, monkeypatch):
    """Nobody else's descriptor is closed: the number of ours may belong to another thread by then."""
    closed: list[int] = []
    real, close = SpoolFile._is_whole, os.close

    def is_whole(file: SpoolFile, target: Path) -> bool:
        found = real(file, target)
        spool.retire(file.relative)
        monkeypatch.setattr("os.close", lambda descriptor: (closed.append(descriptor), close(descriptor)))
        return found

    spool = Spool(tmp_path)
    first, again = (spool.open(claim(), "PACS") for _ in range(2))
    for file in (first, again):
        file.write(memoryview(film()))
    first.publish()
    monkeypatch.setattr(SpoolFile, "_is_whole", is_whole)
    with pytest.raises(Refused) as caught:
        again.publish()
    again.discard()
    assert caught.value.status is Status.LATER
    assert len(closed) == 1
    assert not spool.being_written
    spool.close()
