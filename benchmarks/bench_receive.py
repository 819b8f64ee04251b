"""How fast objects are received: ours beside Orthanc tuned and dcmtk's storescp, interleaved in one run.

    python benchmarks/bench_receive.py [--quick] [--json] [--rounds N]

Every contender writes to the same disk. Ours and Orthanc sync each file before they answer; ours syncs the
folder too and commits its rows. The sender prepares whole messages
beforehand, so that it costs next to nothing. A ratio is the median over the rounds of each round's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from tests.peers import Dcmtk, Orthanc, find_tool
from tests.rawpeer import RawPeer, pdata, store_command
from tests.unit.receive.objects import CR, film

SYNTAX = "1.2.840.10008.1.2.1"
CONTEXT = [(CR, SYNTAX)]
SIZES = {"10 MB": (2500, 2000), "0.5 MB": (512, 512)}
MAX_FRAGMENT = 1 << 20
_serial = iter(range(10**9, 10**10))
_serial_lock = threading.Lock()


def next_uid() -> str:
    with _serial_lock:
        return f"2.25.1{os.getpid():07d}.{next(_serial)}"


class Message:
    """A whole C-STORE request, ready to be sent; only its UIDs change from object to object."""

    def __init__(self, rows: int, columns: int, max_pdu: int) -> None:
        study, instance = next_uid(), next_uid()
        pixels = os.urandom(1 << 20) * (rows * columns * 2 // (1 << 20) + 1)
        data = film(
            {
                "Rows": rows,
                "Columns": columns,
                "StudyInstanceUID": study,
                "SeriesInstanceUID": study,
                "SOPInstanceUID": instance,
            },
            pixels=pixels[: rows * columns * 2],
        )
        step = min(max_pdu, MAX_FRAGMENT) - 6
        parts = [pdata(1, 3, store_command(CR, instance, 1))]
        for at in range(0, len(data), step):
            parts.append(pdata(1, 2 if at + step >= len(data) else 0, data[at : at + step]))
        self.raw = bytearray(b"".join(parts))
        self.size = len(data)
        self._places = [(self._find(uid.encode()), group) for group, uid in enumerate((study, instance))]

    def _find(self, uid: bytes) -> list[int]:
        found, at = [], self.raw.find(uid, 0, 4096)
        while at >= 0:
            found.append(at)
            at = self.raw.find(uid, at + 1, 4096)
        return found

    def fresh(self) -> bytearray:
        """Give the message UIDs that were never sent."""
        uids = [next_uid().encode() for _ in range(2)]
        for places, group in self._places:
            for at in places:
                self.raw[at : at + len(uids[group])] = uids[group]
        return self.raw


@dataclass
class Contender:
    name: str
    port: int
    process: psutil.Process


@dataclass
class Run:
    seconds: float
    objects: int
    size: int
    latencies: list[float]
    cpu: float

    @property
    def megabytes_per_second(self) -> float:
        return self.objects * self.size / self.seconds / 1e6

    @property
    def typical_latency(self) -> float:
        """Milliseconds."""
        return percentile(self.latencies, 0.5)


def paired(ours: list[Run], theirs: list[Run], worth: Callable[[Run], float]) -> float:
    """Return how much better ours was, as the median over the rounds of what was measured side by side.

    A machine that others share is slower for whole rounds; a median of each alone would compare ours of one
    round with theirs of another.
    """
    return statistics.median(worth(a) / worth(b) for a, b in zip(ours, theirs, strict=True))


def cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def store(
    contender: Contender, rows: int, columns: int, associations: int, each: int, *, reopen: bool = False
) -> Run:
    """Send `each` objects over each of `associations`, or one per association with `reopen`."""
    address = ("127.0.0.1", contender.port)
    peers = [RawPeer(address, CONTEXT, called=b"ANY") for _ in range(associations)]
    messages = [Message(rows, columns, peer.peer_max) for peer in peers]
    latencies: list[float] = []
    failures: list[str] = []

    def send(number: int) -> None:
        peer, message = peers[number], messages[number]
        for _ in range(each):
            raw = message.fresh()
            began = time.perf_counter()
            if reopen:
                peer = RawPeer(address, CONTEXT, called=b"ANY")
            peer.sock.sendall(raw)
            status, comment = peer.answer()
            if reopen:
                peer.release()
            latencies.append(time.perf_counter() - began)
            if status:
                failures.append(f"0x{status:04X} {comment}")

    threads = [threading.Thread(target=send, args=(n,)) for n in range(associations)]
    # What the one before left unsynced (storescp syncs nothing) must not be written at this one's expense.
    os.sync()
    before, began = cpu_seconds(contender.process), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, used = time.perf_counter() - began, cpu_seconds(contender.process) - before
    for peer in peers:
        peer.release()
    if failures:
        raise SystemExit(f"{contender.name} refused: {failures[0]}")
    return Run(seconds, len(latencies), messages[0].size, latencies, used)


def idle_cores(contender: Contender, seconds: float) -> float:
    """Return how much of a core 20 open associations cost while nothing is sent."""
    peers = [RawPeer(("127.0.0.1", contender.port), CONTEXT, called=b"ANY") for _ in range(20)]
    time.sleep(0.3)
    before = cpu_seconds(contender.process)
    time.sleep(seconds)
    used = cpu_seconds(contender.process) - before
    for peer in peers:
        peer.release()
    return used / seconds


def peak_memory(contender: Contender, rows: int, columns: int) -> float:
    """Return the peak resident memory in MB while 20 associations send one object each at once."""
    Path(f"/proc/{contender.process.pid}/clear_refs").write_text("5")
    store(contender, rows, columns, 20, 2)
    status = Path(f"/proc/{contender.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


@contextmanager
def ours(folder: Path, *options: str) -> Iterator[Contender]:
    program = Path(__file__).with_name("receiver.py")
    child = subprocess.Popen(
        [sys.executable, str(program), str(folder), *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        yield Contender("pynetdicom" if options else "triage", port, psutil.Process(child.pid))
    finally:
        child.terminate()
        child.wait(20)


@contextmanager
def orthanc(folder: Path) -> Iterator[Contender]:
    server = Orthanc(folder, nodelay=True)
    server.start(
        SyncStorageArea=True, StorageCompression=False, OverwriteInstances=False, DicomThreadsCount=20
    )
    try:
        assert server._process is not None
        yield Contender("Orthanc", server.dicom_port, psutil.Process(server._process.pid))
    finally:
        server.stop()


@contextmanager
def storescp(folder: Path) -> Iterator[Contender]:
    folder.mkdir(parents=True)
    with Dcmtk().storescp(folder, "--fork", "-pdu", 131072, "+xa") as port:
        pid = next(c.pid for c in psutil.Process().children() if "storescp" in c.name())
        yield Contender("storescp", port, psutil.Process(pid))


def contenders(stack: ExitStack, folder: Path, *, plain: bool) -> list[Contender]:
    found: list[Any] = [ours(folder / "triage")]
    if plain:
        found.append(ours(folder / "plain", "ordinary"))
    if find_tool("Orthanc"):
        found.append(orthanc(folder / "orthanc"))
    if find_tool("storescp"):
        found.append(storescp(folder / "storescp"))
    return [stack.enter_context(each) for each in found]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] * 1000


def measure(
    stack: ExitStack, folder: Path, *, rounds: int, quick: bool, plain: bool, note: Callable[[str], None]
) -> dict[str, Any]:
    rivals = contenders(stack, folder, plain=plain)
    speeds: dict[tuple[str, int, str], list[Run]] = defaultdict(list)
    reopened: dict[str, list[Run]] = defaultdict(list)
    volume = {"10 MB": 12 if quick else 40, "0.5 MB": 60 if quick else 300}
    for rival in rivals:  # the first objects pay for imports and caches
        store(rival, *SIZES["0.5 MB"], 2, 4)
    for number in range(rounds):
        for label, (rows, columns) in SIZES.items():
            for associations in (1, 4, 20):
                for rival in rivals:
                    each = max(volume[label] // associations, 2)
                    speeds[label, associations, rival.name].append(
                        store(rival, rows, columns, associations, each)
                    )
                note(f"round {number + 1}: {label}, {associations} associations")
        for rival in rivals:
            reopened[rival.name].append(store(rival, *SIZES["0.5 MB"], 1, 20 if quick else 60, reopen=True))
    result: dict[str, Any] = {"throughput": [], "reopen_ms": {}, "idle_cores": {}, "peak_mb": {}}

    def against(rival: str, label: str, associations: int) -> float:
        ours, theirs = speeds[label, associations, "triage"], speeds[label, associations, rival]
        return paired(ours, theirs, lambda run: run.objects / run.seconds)

    for (label, associations, name), runs in speeds.items():
        result["throughput"].append(
            {
                "object": label,
                "associations": associations,
                "contender": name,
                "mb_per_s": statistics.median(r.megabytes_per_second for r in runs),
                "objects_per_s": statistics.median(r.objects / r.seconds for r in runs),
                "p50_ms": statistics.median(r.typical_latency for r in runs),
                "p95_ms": statistics.median(percentile(r.latencies, 0.95) for r in runs),
                "cpu_ms": statistics.median(r.cpu / r.objects * 1000 for r in runs),
                "triage_is_faster": against(name, label, associations),
            }
        )
    for name, runs in reopened.items():
        result["reopen_ms"][name] = statistics.median(run.typical_latency for run in runs)
    if "Orthanc" in reopened:
        result["reopen_ratio"] = paired(
            reopened["Orthanc"], reopened["triage"], lambda run: run.typical_latency
        )
    for rival in rivals:
        result["idle_cores"][rival.name] = idle_cores(rival, 2.0 if quick else 5.0)
        result["peak_mb"][rival.name] = peak_memory(rival, *SIZES["10 MB"])
    return result


def report(result: dict[str, Any]) -> bool:
    """Print every figure beside its rival and its bar; return whether all bars hold."""
    held = True

    def bar(text: str, ok: bool) -> str:
        nonlocal held
        held = held and ok
        return f"{text} {'holds' if ok else 'MISSED'}"

    names = list(dict.fromkeys(row["contender"] for row in result["throughput"]))
    print(f"{'receive':28}" + "".join(f"{name:>22}" for name in names) + "   ratio to Orthanc, bar")
    for label in SIZES:
        for associations in (1, 4, 20):
            rows = {
                row["contender"]: row
                for row in result["throughput"]
                if (row["object"], row["associations"]) == (label, associations)
            }
            unit = "mb_per_s" if label == "10 MB" else "objects_per_s"
            shown = "".join(f"{row[unit]:10.0f} ({row['cpu_ms']:5.1f} cpu)" for row in rows.values())
            line = (
                f"{label}, {associations:2} associations, {'MB/s' if unit == 'mb_per_s' else '1/s':4} {shown}"
            )
            if "Orthanc" in rows:
                ratio, due = rows["Orthanc"]["triage_is_faster"], 1.5 if label == "10 MB" else 1.0
                line += f"   {ratio:5.2f}x  " + bar(f">= {due}x", ratio >= due)
            if "storescp" in rows:
                line += f", share of storescp {rows['storescp']['triage_is_faster']:.2f}"
            print(line)
    reopen = result["reopen_ms"]
    line = "new association per object   " + "".join(f"{reopen[name]:15.1f} ms    " for name in names)
    if "Orthanc" in reopen:
        line += f"   {result['reopen_ratio']:5.2f}x  " + bar(">= 1.0x", result["reopen_ratio"] >= 1.0)
    print(line)
    idle, peak = result["idle_cores"], result["peak_mb"]
    print(
        "20 idle associations         "
        + "".join(f"{idle[n]:15.3f} cores " for n in names)
        + "   "
        + bar("<= 0.05", idle["triage"] <= 0.05)
    )
    print(
        "peak memory, 20 x 10 MB      "
        + "".join(f"{peak[n]:15.0f} MB    " for n in names)
        + "   "
        + bar("<= 150 MB", peak["triage"] <= 150)
    )
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round of few objects")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="measure pynetdicom as it comes too")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="where every contender writes")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 5)
    with (
        tempfile.TemporaryDirectory(prefix="triage-bench-", dir=options.folder) as name,
        ExitStack() as stack,
    ):
        note = (lambda text: print(text, file=sys.stderr)) if sys.stderr.isatty() else (lambda _text: None)
        result = measure(
            stack, Path(name), rounds=rounds, quick=options.quick, plain=options.plain, note=note
        )
    if options.json:
        print(json.dumps(result))
        return 0
    return 0 if report(result) else 1


if __name__ == "__main__":
    sys.exit(main())
