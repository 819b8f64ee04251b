"""The receiver dies at any instant, its disk fills up, its database is locked: nothing is lost."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rawpeer import Aborted, Object, RawPeer, Rejected
from tests.receiving import EXPLICIT_LE, Room, an_object, receiving
from tests.unit.receive.objects import CR, film

CONTEXTS = [(CR, EXPLICIT_LE)]
SENDERS = 4


class Nursery:
    """A process that forks a receive room for a folder whenever it is asked to."""

    def __init__(self) -> None:
        program = Path(__file__).with_name("receiver.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, folder: Path) -> tuple[int, tuple[str, int]]:
        """Return the pid and the address of a new room."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        pid, port = self._process.stdout.readline().split()
        return int(pid), ("127.0.0.1", int(port))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.stop()


class Load:
    """Senders that repeat what was not acknowledged, as a PACS does, and remember what was."""

    def __init__(self, seed: int) -> None:
        self.acknowledged: dict[str, str] = {}
        self.sent = 0
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._serial = 0

    def next_object(self) -> Object:
        with self._lock:
            self._serial += 1
            number = self._serial
            pixels = self._random.randbytes(self._random.choice((200, 20_000, 400_000)))
        values = {
            "StudyInstanceUID": f"1.2.{number % 7 + 1}",
            "SeriesInstanceUID": "1.2.3.1",
            "Rows": 1,
            "Columns": 1,
        }
        uid = f"1.2.{number % 7 + 1}.{number}"
        return Object(CR, uid, EXPLICIT_LE, film({**values, "SOPInstanceUID": uid}, pixels=pixels))

    def run(self, address: tuple[str, int], pending: Object | None) -> Object | None:
        """Send until the receiver dies; return what got no answer."""
        try:
            peer = RawPeer(address, CONTEXTS, timeout=20)
            while True:
                item = pending or self.next_object()
                pending = item
                status, _ = peer.store(item)
                if status == 0:
                    with self._lock:
                        self.acknowledged[item.sop_instance] = hashlib.sha256(item.data).hexdigest()
                pending = None
        except (OSError, Aborted, Rejected):
            return pending


def nothing_is_lost(room: Room, acknowledged: dict[str, str]) -> None:
    rows = room.instances()
    found = {row.sop_instance_uid: row for row in rows}
    assert len(found) == len(rows), "one object has two rows"
    assert acknowledged.keys() <= found.keys()
    for row in rows:
        raw = room.spool.path(row.path).read_bytes()
        data = raw[len(raw) - row.size :]
        assert hashlib.sha256(data).hexdigest() == row.digest
        if row.sop_instance_uid in acknowledged:
            assert row.digest == acknowledged[row.sop_instance_uid]
    assert sorted(room.files()) == sorted(row.path for row in rows), "a file without a row, or half a file"
    assert room.jobs("assess") == len(rows), "a film would be assessed twice, or never"


def kill_and_look(nursery: Nursery, folder: Path, times: int) -> None:
    chance = random.Random(times)
    load = Load(times)
    pending: list[Object | None] = [None] * SENDERS
    for _ in range(times):
        pid, address = nursery.start(folder)

        def send(number: int, address: tuple[str, int] = address) -> None:
            pending[number] = load.run(address, pending[number])

        threads = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
        for thread in threads:
            thread.start()
        threading.Event().wait(chance.uniform(0.05, 0.6))
        os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join(30)
    assert load.acknowledged
    with receiving(folder) as room:
        assert room.recovered.missing == ()
        nothing_is_lost(room, load.acknowledged)


def test_twenty_kills_under_load_lose_nothing(nursery, tmp_path):
    kill_and_look(nursery, tmp_path, 20)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_two_hundred_kills_under_load_lose_nothing(nursery, tmp_path):
    kill_and_look(nursery, tmp_path, 200)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB, or a skip where none may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("No file system may be mounted here.")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_disk_that_fills_up_is_out_of_resources_and_then_goes_on(tmp_path, small_disk):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "spool").symlink_to(small_disk)
    with receiving(tmp_path / "room") as room:
        peer = RawPeer(room.address, CONTEXTS)
        big = film({"SOPInstanceUID": "1.2.3.1", "Rows": 1, "Columns": 1}, pixels=os.urandom(900_000))
        statuses = []
        for number in range(1, 9):
            uid = f"1.2.3.{number}"
            item = Object(
                CR,
                uid,
                EXPLICIT_LE,
                big.replace(b"1.2.3.1\0" + b"\x08\x00\x60", uid.encode() + b"\0" + b"\x08\x00\x60"),
            )
            statuses.append(peer.store(item)[0])
        kept = statuses.count(0)
        assert set(statuses) == {0x0000, 0xA700}
        assert 2 <= kept <= 4
        assert len(room.instances()) == len(room.files()) == kept
        ballast = room.spool.path(room.instances()[0].path)
        ballast.write_bytes(b"")  # somebody makes room
        assert peer.store(Object(CR, "1.2.3.4", EXPLICIT_LE, film()))[0] == 0x0000
        peer.release()


@pytest.mark.parametrize(
    "seconds", [1.5, pytest.param(30, marks=[pytest.mark.nightly, pytest.mark.timeout(120)])]
)
def test_a_database_locked_by_somebody_else_is_out_of_resources_and_then_goes_on(tmp_path, seconds):
    with receiving(tmp_path, busy_timeout=0.3) as room:
        peer = RawPeer(room.address, CONTEXTS, timeout=60)
        other = sqlite3.connect(tmp_path / "triage.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        free = threading.Event()
        answers: list[int] = []

        def insist() -> None:
            number = 1
            while number < 6:
                status = peer.store(an_object(number))[0]
                answers.append(status)
                number += status == 0

        thread = threading.Thread(target=insist)
        thread.start()
        free.wait(seconds)
        assert set(answers) == {0xA700}
        other.execute("ROLLBACK")
        other.close()
        thread.join(20)
        assert answers[-5:] == [0] * 5
        peer.release()
        assert len(room.instances()) == 5
        assert len(room.files()) == 5
