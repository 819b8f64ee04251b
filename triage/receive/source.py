"""Bytes of a data set, read forwards with constant memory: from a file, or through a bounded inflater."""

from __future__ import annotations

import os
import zlib
from typing import Protocol

_WINDOW = 1 << 16
#: A deflated data set may inflate to this much; what is inflated is thrown away piece by piece.
_INFLATED_LIMIT = 512 << 20


class ExhaustedError(Exception):
    """Fewer bytes are there than were asked for; `missing` counts them."""

    def __init__(self, missing: int) -> None:
        """Keep how many bytes are missing."""
        super().__init__(missing)
        self.missing = missing


class Source(Protocol):
    """A forward reader: `position` counts the bytes of the (inflated) data set before the next one."""

    position: int

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes, or raise `ExhaustedError`."""

    def skip(self, count: int) -> None:
        """Pass over `count` bytes, or raise `ExhaustedError`."""

    def ended(self) -> bool:
        """Return whether no byte is left."""

    def left(self) -> int | None:
        """Return how many bytes are left, or None when only reading on would tell."""


class FileSource:
    """The bytes of an open file from `offset` on; the file's own position is never used."""

    def __init__(self, descriptor: int, offset: int = 0, begins: bytes = b"") -> None:
        """Read nothing yet; what is known of the first bytes is not read at all."""
        self._descriptor = descriptor
        self._offset = offset
        self._size = max(os.fstat(descriptor).st_size - offset, 0)
        self._window = begins
        self._window_at = 0
        self.position = 0

    def take(self, count: int) -> bytes:
        """See `Source`."""
        start = self.position - self._window_at
        if start < 0 or start + count > len(self._window):
            if count > self._size - self.position:
                raise ExhaustedError(count - (self._size - self.position))
            self._window = os.pread(self._descriptor, max(count, _WINDOW), self._offset + self.position)
            self._window_at = self.position
            start = 0
        self.position += count
        return self._window[start : start + count]

    def skip(self, count: int) -> None:
        """See `Source`."""
        if count > self._size - self.position:
            raise ExhaustedError(count - (self._size - self.position))
        self.position += count

    def ended(self) -> bool:
        """See `Source`."""
        return self.position >= self._size

    def left(self) -> int | None:
        """See `Source`."""
        return self._size - self.position


class DeflatedSource:
    """A data set under the deflated transfer syntax (PS3.5 A.5), inflated piece by piece and thrown away."""

    def __init__(self, packed: FileSource) -> None:
        """Read nothing yet."""
        self._packed = packed
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._buffer = b""
        self.position = 0

    def _fill(self, count: int) -> None:
        while len(self._buffer) < count:
            piece = self._inflate()
            if not piece:
                raise ExhaustedError(count - len(self._buffer))
            self._buffer += piece

    def _inflate(self) -> bytes:
        """Return the next inflated bytes, at most a window of them; empty at the end of the stream."""
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail
            if not packed:
                left = self._packed.left() or 0
                packed = self._packed.take(min(_WINDOW, left))
            piece = self._inflater.decompress(packed, _WINDOW)
            if piece:
                return piece
            if not packed:
                break
        return b""

    def take(self, count: int) -> bytes:
        """See `Source`; raises zlib.error for a stream that is none."""
        if self.position + count > _INFLATED_LIMIT:
            raise ExhaustedError(self.position + count - _INFLATED_LIMIT)
        self._fill(count)
        value, self._buffer = self._buffer[:count], self._buffer[count:]
        self.position += count
        return value

    def skip(self, count: int) -> None:
        """See `Source`."""
        while count:
            step = min(count, _WINDOW)
            self.take(step)
            count -= step

    def ended(self) -> bool:
        """See `Source`."""
        if self._buffer:
            return False
        self._buffer = self._inflate()
        return not self._buffer

    def left(self) -> int | None:
        """See `Source`."""
        return None
