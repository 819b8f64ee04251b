"""How long a 20 KB report takes to a peer: ours, pynetdicom as it comes, and dcmtk's storescu, interleaved.

    python -m benchmarks send [--quick] [--json]

Each contender sends distinct objects over one open association, to dcmtk's storescp and to Orthanc (with
TCP_NODELAY=1), in turn and several rounds. storescu is a process: its figure is the difference between many
files and one, divided by how many more there were. The floor is a sender that has the whole message ready and
does nothing but write it and read the answer: what is left is the receiver's own time (Orthanc syncs the file
and writes its index before it answers).
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from tests.peers import Dcmtk, Orthanc, find_tool
from tests.rawpeer import RawPeer, pdata, read_part10, store_command
from tests.reports import CASES, report_input
from triage.deliver.dicom import DicomDestination, Sender, StoredObject
from triage.report.document import file_bytes
from triage.report.sr import SOP_CLASS_UID, build_sr

BAR_MILLISECONDS = 5.0
#: dcmtk stalls on Nagle's algorithm too, unless it is told not to.
_NODELAY = os.environ | {"TCP_NODELAY": "1"}


class _Reports:
    """Distinct reports: one object under ever new UIDs of equal length."""

    def __init__(self, folder: Path) -> None:
        ds = build_sr(report_input(*CASES["positive"]))
        self._uid = str(ds.SOPInstanceUID).encode()
        self._bytes = file_bytes(ds)
        self._folder = folder
        self.size = len(self._bytes)

    def make(self, count: int) -> list[Path]:
        paths = []
        for _ in range(count):
            digits = len(self._uid) - len("2.25.")
            uid = "2.25." + str(secrets.randbelow(9 * 10 ** (digits - 1)) + 10 ** (digits - 1))
            path = self._folder / f"{uid}.dcm"
            path.write_bytes(self._bytes.replace(self._uid, uid.encode()))
            paths.append(path)
        return paths


def _ours(port: int, paths: list[Path]) -> list[float]:
    sender = Sender(DicomDestination("bench", "BENCH", "127.0.0.1", port, "TRIAGE"))
    items = [StoredObject.read(path) for path in paths]
    times = [_timed(lambda item=item: _check(sender.send(item))) for item in items]
    sender.release()
    return times[1:]


def _floor(port: int, paths: list[Path]) -> list[float]:
    peer = RawPeer(("127.0.0.1", port), [(str(SOP_CLASS_UID), str(ExplicitVRLittleEndian))], called=b"BENCH")
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for number, path in enumerate(paths, start=1):
        item = read_part10(path)
        step = peer.peer_max - 6
        parts = [pdata(1, 3, store_command(item.sop_class, item.sop_instance, number))]
        for at in range(0, len(item.data), step):
            last = at + step >= len(item.data)
            parts.append(pdata(1, 2 if last else 0, item.data[at : at + step]))
        message = b"".join(parts)
        started = time.perf_counter()
        peer.sock.sendall(message)
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        status, _ = peer.answer()
        times.append((time.perf_counter() - started) * 1e3)
        _check(status)
    peer.release()
    return times[1:]


def _plain(port: int, paths: list[Path]) -> list[float]:
    ae = AE("TRIAGE")
    ae.add_requested_context(SOP_CLASS_UID, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", port, ae_title="BENCH")
    objects = [dcmread(path) for path in paths]
    times = []
    for ds in objects:
        started = time.perf_counter()
        answer = association.send_c_store(ds)
        if "Status" not in answer:  # it lost the association; what it sent before counts
            break
        times.append((time.perf_counter() - started) * 1e3)
        _check(answer.Status)
    if association.is_established:
        association.release()
    return times[1:]


def _storescu(port: int, paths: list[Path]) -> list[float]:
    tool = find_tool("storescu")

    def run(some: list[Path]) -> float:
        command = [str(tool), "-R", "-aec", "BENCH", "127.0.0.1", str(port), *map(str, some)]
        return _timed(lambda: subprocess.run(command, check=True, capture_output=True, env=_NODELAY))

    one, all_others = run(paths[:1]), run(paths[1:])
    return [max(0.0, all_others - one) / (len(paths) - 2)]


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def _check(status: int) -> None:
    if status != 0:
        sys.exit(f"The peer answered 0x{status:04X}.")


FLOOR = "floor: bytes only"
CONTENDERS = {
    "ours": _ours,
    FLOOR: _floor,
    "pynetdicom as it comes": _plain,
    "dcmtk storescu": _storescu,
}


def measure(rounds: int, count: int) -> tuple[int, dict[str, dict[str, list[float]]]]:
    """Return the size of the object, and milliseconds per object by receiver and contender."""
    taken: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="triage-bench-")))
        received = folder / "received"
        received.mkdir()
        receivers = {"storescp": stack.enter_context(Dcmtk().storescp(received))}
        if find_tool("Orthanc"):
            orthanc = Orthanc(folder / "orthanc")
            stack.callback(orthanc.stop)
            receivers["Orthanc"] = orthanc.start().dicom_port
        reports = _Reports(folder)
        for _ in range(rounds):
            for receiver, port in receivers.items():
                for name, contender in CONTENDERS.items():
                    taken[receiver][name] += contender(port, reports.make(count + 1))
    return reports.size, taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    size, taken = measure(2 if options.quick else 5, 10 if options.quick else 30)
    rows = [
        {
            "receiver": receiver,
            "sender": name,
            "median_ms": round(statistics.median(times), 2),
            "best_ms": round(min(times), 2),
            "beyond_floor_ms": round(statistics.median(times) - statistics.median(by_sender[FLOOR]), 2),
            "ours_is_faster_by": round(statistics.median(times) / statistics.median(by_sender["ours"]), 2),
        }
        for receiver, by_sender in taken.items()
        for name, times in by_sender.items()
    ]
    if options.json:
        print(json.dumps({"bytes": size, "bar_ms": BAR_MILLISECONDS, "rows": rows}, indent=2))
        return
    print(f"one report of {size} bytes on an open association; bar: ours <= {BAR_MILLISECONDS:g} ms")
    print(f"{'receiver':10} {'sender':24} {'median ms':>10} {'best ms':>9} {'over floor':>11} {'x ours':>7}")
    for row in rows:
        print(
            f"{row['receiver']:10} {row['sender']:24} {row['median_ms']:10.2f} {row['best_ms']:9.2f}"
            f" {row['beyond_floor_ms']:11.2f} {row['ours_is_faster_by']:7.2f}"
        )


if __name__ == "__main__":
    main()
