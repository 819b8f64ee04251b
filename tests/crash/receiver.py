"""Receive rooms that a test may kill: for each folder on stdin one is forked off; prints its pid and port.

The imports are paid for once, so that a test may kill many.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.receiving import Room

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    if os.fork() == 0:
        room = Room(Path(line.strip()), quiet=60.0).start()
        print(os.getpid(), room.address[1], flush=True)
        threading.Event().wait()
