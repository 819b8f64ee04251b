"""A receive room in a process of its own, for the benchmark: `receiver.py FOLDER`."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.receiving import Room


def main() -> None:
    room = Room(Path(sys.argv[1]), quiet=60.0, fast=sys.argv[2:] != ["ordinary"]).start()
    gc.collect()
    gc.freeze()  # as `triage serve` does
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    print(room.address[1], flush=True)
    ended.wait()
    room.stop()


if __name__ == "__main__":
    main()
