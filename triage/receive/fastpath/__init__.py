"""The fast road below pynetdicom's public surface: everything of that kind is in this module.

As it comes, pynetdicom copies each byte of an object about six times and wakes two threads of every
association a thousand times a second. Here the thread that owns the socket writes the fragments of a C-STORE
straight into the spool and answers by itself; whatever else comes over the association (negotiation, C-ECHO,
N-SET, release, abort) goes through pynetdicom's own code, on that same thread. It waits for events instead of
polling.

`available` says whether this pynetdicom is one that this module was written for; if not, the listener uses
the ordinary path. The same protocol tests run over both.
"""

from __future__ import annotations

import os
from importlib.metadata import version

from triage.receive.fastpath.server import FastServer

__all__ = ["FastServer", "available"]


def available() -> bool:
    """Return whether the installed pynetdicom is one whose inside is known here."""
    return version("pynetdicom").startswith("3.0.") and hasattr(os, "eventfd")
