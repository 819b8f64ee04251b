"""The data folder of a site: made at the start, and held by one service at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from triage.errors import ConfigurationError

_PARTS = ("spool", "results", "engines")


def make(folder: Path) -> None:
    """Return when the folder and its parts are there.

    Raises:
        ConfigurationError: it is a file, or can't be made.
    """
    for one in (folder, *(folder / part for part in _PARTS)):
        try:
            one.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"The data folder {one} can't be made: {error.strerror}; change site.data_dir."
            raise ConfigurationError(msg) from None


def hold(folder: Path, what: str) -> Callable[[], None]:
    """Keep `what` in this folder for this process until the answer is called, or until the process ends.

    Raises:
        ConfigurationError: another process holds it, or the folder can't be written.
    """
    try:
        held = os.open(folder / f".{what}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        msg = f"The data folder {folder} can't be written: {error.strerror}; change site.data_dir."
        raise ConfigurationError(msg) from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        msg = f"Another service ({what}) runs on the data folder {folder}; stop it, or change site.data_dir."
        raise ConfigurationError(msg) from None
    return lambda: os.close(held)
