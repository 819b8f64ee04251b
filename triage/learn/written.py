"""Files that are whole or not there: written beside their place, then moved into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from triage.errors import NotWritten


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; at the end what lies there takes its place.

    The folder is made where it is missing. Whatever happens, the old file stays until the new one is whole on
    the disk, and nothing else is left behind.

    Raises:
        NotWritten: the disk has no room, or the place can't be written to.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    except (OSError, SafetensorError) as error:
        raise not_written(path, error) from None
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Put a whole new text into the place of the old.

    Raises:
        NotWritten: as `whole`.
    """
    with whole(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def not_written(path: Path, error: Exception) -> NotWritten:
    """Return the sentence of a path that can't be written."""
    why = getattr(error, "strerror", None) or error
    return NotWritten(
        f"{path} can't be written ({why}); free some room or give another place, and a training goes on "
        "with --resume: what was there before is whole."
    )
