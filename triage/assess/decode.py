"""Compressed frames become samples in processes of their own, under limits of time and memory.

A decoder that crashes, hangs or swells takes its process with it; the caller gets a PixelError, the pool
a fresh process, and nobody else notices. Samples come back through shared memory without a copy.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import mmap
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from triage.assess.codestream import Geometry, j2k_geometry, jpeg_geometry, rle_segments
from triage.assess.errors import PixelError
from triage.domain.finding import NotEvaluated

log = logging.getLogger(__name__)

_JPEG = "1.2.840.10008.1.2.4."
#: Transfer syntax -> decoder. Everything that is listed here can be offered to senders.
CODECS: MappingProxyType[str, str] = MappingProxyType(
    {
        "1.2.840.10008.1.2.5": "rle",
        "1.2.840.10008.1.2.8.1": "deflated",
        **{_JPEG + tail: "jpeg" for tail in ("50", "51", "57", "70")},
        **{_JPEG + tail: "jpegls" for tail in ("80", "81")},
        **{_JPEG + tail: "j2k" for tail in ("90", "91")},
        **{_JPEG + tail: "jpegxl" for tail in ("110", "111", "112")},
        **{_JPEG + tail: "htj2k" for tail in ("201", "202", "203")},
    }
)
#: Run as a file of its own, so that a decoding process imports nothing of the service.
_PROGRAM = Path(__file__).with_name("decoder_child.py")
#: Native words inside fragments: needs no decoder (PS3.5 A.4.11).
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
_GEOMETRIES: dict[str, Callable[[bytes | memoryview], Geometry]] = {
    "jpeg": jpeg_geometry,
    "jpegls": jpeg_geometry,
    "j2k": j2k_geometry,
    "htj2k": j2k_geometry,
}


@dataclass(frozen=True)
class Limits:
    """What one frame may cost: seconds of wall clock, and bytes of memory beyond an idle process."""

    seconds: float = 20.0
    memory: int = 2 * 1024**3


@dataclass(frozen=True)
class Decoded:
    """Samples as unsigned words [rows, columns(, samples)], and the bits the stream itself declares."""

    samples: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    precision: int | None


class DecoderPool:
    """A few warm decoding processes, each for one frame at a time; safe to call from many threads."""

    def __init__(self, workers: int | None = None, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        count = workers or max(2, min(4, os.cpu_count() or 2))
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)
        self._count = count

    def warm(self) -> None:
        """Start one process now, so that the first compressed film does not wait for it."""
        worker = self._idle.get()
        self._idle.put(worker or _Worker(self.limits))

    def decode(self, frame: bytes | memoryview, codec: str, geometry: Geometry) -> Decoded:
        """Return the frame's samples; `geometry` is what the DICOM header promises.

        Raises PixelError: undecodable when the stream is cut, broken, or breaks its decoder;
        bad-geometry when it holds another picture than the header says.
        """
        inner = _agree(frame, codec, geometry)
        # a JPEG XL stream is only known when decoded; any depth of a film fits 16 bits
        bits = (
            inner.precision
            if inner
            else max(16, geometry.precision)
            if codec == "jpegxl"
            else geometry.precision
        )
        dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)
        shape: tuple[int, ...] = (geometry.rows, geometry.columns)
        if geometry.components > 1:
            shape = (*shape, geometry.components)
        worker = self._idle.get()
        fit = False
        try:
            # One that died while it was idle (the system wanted its memory) must not cost a film.
            if worker is not None and not worker.alive:
                worker.kill()
                worker = None
            used = worker is not None
            worker = worker or _Worker(self.limits)
            try:
                samples = worker.run(frame, codec, shape, dtype)
            except _CrashedError:
                # A process that broke at this film may have been broken by an earlier one: once more, afresh.
                if not used:
                    raise
                worker.kill()
                worker = _Worker(self.limits)
                samples = worker.run(frame, codec, shape, dtype)
            fit = True
        except _RefusedError as refusal:
            fit = not refusal.fatal
            sentence = f"The compressed pixels could not be decoded: {refusal}."
            raise PixelError(NotEvaluated.UNDECODABLE, sentence) from refusal
        finally:
            if not fit and worker is not None:
                worker.kill()
                log.warning(
                    "A decoding process was replaced.", extra={"event": "decoder_replaced", "codec": codec}
                )
            self._idle.put(worker if fit else None)
        return Decoded(samples, inner.precision if inner else None)

    def close(self) -> None:
        """End every idle process; those at work end with their frame's time limit at the latest."""
        for _ in range(self._count):
            with contextlib.suppress(queue.Empty):
                worker = self._idle.get(timeout=self.limits.seconds + 1)
                if worker is not None:
                    worker.kill()


def _agree(frame: bytes | memoryview, codec: str, geometry: Geometry) -> Geometry | None:
    """Return the stream's own geometry, or None where only a decoder can tell; refuse a disagreement."""
    if codec == "rle":
        rle_segments(frame, geometry.components * ((geometry.precision + 7) // 8))
        return None
    reader = _GEOMETRIES.get(codec)
    if reader is None:
        return None
    inner = reader(frame)
    if (inner.rows, inner.columns, inner.components) == (
        geometry.rows,
        geometry.columns,
        geometry.components,
    ):
        if inner.precision > 16:
            raise PixelError(NotEvaluated.BAD_GEOMETRY, f"The stream has {inner.precision} bits a sample.")
        return inner
    raise PixelError(
        NotEvaluated.BAD_GEOMETRY,
        f"The compressed picture is {inner.rows} x {inner.columns} x {inner.components}, "
        f"the header says {geometry.rows} x {geometry.columns} x {geometry.components}.",
    )


class _RefusedError(Exception):
    """The stream could not be decoded; `fatal` when the process must not be used again."""

    def __init__(self, text: str, fatal: bool) -> None:
        super().__init__(text)
        self.fatal = fatal


class _CrashedError(_RefusedError):
    """The process ended while it decoded."""


class _Worker:
    """One decoding process and the socket to it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # -P: the folder of the program must not shadow anybody's modules
            command = [sys.executable, "-P", str(_PROGRAM), str(theirs.fileno())]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [*command, str(limits.memory)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        self._channel = ours

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def run(
        self, frame: bytes | memoryview, codec: str, shape: tuple[int, ...], dtype: np.dtype
    ) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
        size = int(np.prod(shape)) * dtype.itemsize
        source, target = os.memfd_create("frame"), os.memfd_create("samples")
        try:
            with memoryview(frame) as view:
                written = 0
                while written < len(view):
                    written += os.write(source, view[written:])
            os.ftruncate(target, size)
            request = {"codec": codec, "shape": shape, "dtype": dtype.name, "length": len(frame)}
            self._exchange(json.dumps(request).encode(), [source, target])
            memory = mmap.mmap(target, size)
            return np.frombuffer(memory, dtype).reshape(shape)
        finally:
            os.close(source)
            os.close(target)

    def _exchange(self, request: bytes, descriptors: list[int]) -> None:
        deadline = time.monotonic() + self._limits.seconds
        try:
            socket.send_fds(self._channel, [request], descriptors)
            self._channel.settimeout(max(0.01, deadline - time.monotonic()))
            reply = self._channel.recv(65536)
        except TimeoutError:
            raise _RefusedError(
                f"the decoder took longer than {self._limits.seconds:g} s", fatal=True
            ) from None
        except OSError:
            reply = b""
        if not reply:
            raise _CrashedError("the decoder crashed", fatal=True)
        answer = json.loads(reply)
        if not answer["ok"]:
            raise _RefusedError(answer["error"], fatal=bool(answer.get("fatal")))

    def kill(self) -> None:
        self._channel.close()
        self._process.kill()
        self._process.wait()


_shared: DecoderPool | None = None
_shared_lock = threading.Lock()


def shared_pool() -> DecoderPool:
    """Return the pool of this process, made at the first call and ended at exit."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = DecoderPool()
            atexit.register(_shared.close)
        return _shared
