"""The program of a decoding process: compressed frame in, samples out, nothing else (run by decode.py).

It imports numpy and imagecodecs only. A request is one JSON message with two file descriptors: the
compressed bytes, and a memory file of the size that the samples must have. Whatever a hostile stream
does here (abort, hang, swell) ends this process and no other.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

_PR_SET_PDEATHSIG = 1
#: JPEG 2000 is the one slow decoder, and the one that shares its work.
_THREADS = min(4, os.cpu_count() or 1)


def _deflated(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Deflated Image Frame (PS3.5 A.4.11): one raw deflate stream, inflated to its size and no further."""
    size = int(np.prod(shape)) * dtype.itemsize
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    return np.frombuffer(inflated, dtype, count=int(np.prod(shape))).reshape(shape)


def _rle(data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """RLE (PS3.5 annex G): byte planes, expanded to the size of the film and no further."""
    if len(shape) == 2:
        size = int(np.prod(shape)) * dtype.itemsize
        words = imagecodecs.dicomrle_decode(data, dtype.newbyteorder("<").str, out=size)
        if len(words) != size:
            raise ValueError("the run-length segments do not hold the pixels of the film")
        return np.frombuffer(words, dtype.newbyteorder("<")).reshape(shape)
    rows, columns, samples = shape
    if dtype.itemsize != 1:
        raise ValueError("colour samples of more than 8 bits")
    offsets = [int(value) for value in np.frombuffer(data[4 : 4 + 4 * samples], "<u4")]
    bounds = zip(offsets, [*offsets[1:], len(data)], strict=True)
    planes = [_packbits(data[low:high], rows * columns).reshape(rows, columns) for low, high in bounds]
    return np.stack(planes, axis=-1)


def _packbits(segment: bytes, size: int) -> np.ndarray:
    """Expand one byte plane to exactly `size` bytes; a pad byte at its end is tolerated."""
    out = bytearray(size)
    for data in (segment, segment[:-1]):
        with contextlib.suppress(RuntimeError):
            plane = imagecodecs.packbits_decode(data, out=out)
            if len(plane) == size:
                return np.frombuffer(plane, np.uint8)
    raise ValueError("a run-length segment does not hold the pixels of the film")


def _imagecodecs(name: str, **options: Any) -> Callable[..., np.ndarray]:
    function = getattr(imagecodecs, name + "_decode")
    return lambda data, _shape, _dtype: function(data, **options)


#: The one decoder of each kind, the fastest that is exact; tests hold each against a second library.
DECODERS: dict[str, Callable[[bytes, tuple[int, ...], np.dtype[Any]], np.ndarray]] = {
    "jpeg": _imagecodecs("jpeg8"),
    "jpegls": _imagecodecs("jpegls"),
    "j2k": _imagecodecs("jpeg2k", numthreads=_THREADS),
    "htj2k": _imagecodecs("htj2k"),
    "jpegxl": _imagecodecs("jpegxl", numthreads=1),
    "rle": _rle,
    "deflated": _deflated,
}


def decode(codec: str, data: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Return the samples as unsigned words of `shape`; raise ValueError when the stream holds others."""
    samples = DECODERS[codec](data, shape, dtype)
    if samples.shape != shape:
        found = " x ".join(str(size) for size in samples.shape)
        raise ValueError(f"the compressed picture is {found}")
    if samples.dtype.kind not in "iu" or samples.dtype.itemsize > dtype.itemsize:
        raise ValueError(f"the compressed samples are {samples.dtype}")
    return samples


def _limit(memory: int) -> None:
    """Bound the address space to what is mapped now plus `memory`; dump no core; die with the parent."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, mapped + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _serve_one(request: dict[str, Any], source: int, target: int) -> dict[str, Any]:
    shape, dtype = tuple(request["shape"]), np.dtype(request["dtype"])
    samples = decode(request["codec"], os.pread(source, request["length"], 0), shape, dtype)
    with mmap.mmap(target, int(np.prod(shape)) * dtype.itemsize) as memory:
        out = np.frombuffer(memory, dtype).reshape(shape)
        out[...] = samples.view(f"u{samples.dtype.itemsize}")
        del out
    return {"ok": True, "bits": samples.dtype.itemsize * 8}


def main(channel_fd: int, memory: int) -> None:
    """Answer requests until the other end closes; a failed stream is an answer, not an end."""
    np.zeros(1)
    _limit(memory)
    channel = socket.socket(fileno=channel_fd)
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(channel, 65536, 2)
        if not message:
            return
        source, target = descriptors
        try:
            answer = _serve_one(json.loads(message), source, target)
        except MemoryError:
            answer = {
                "ok": False,
                "fatal": True,
                "error": "the stream asks for more memory than a film needs",
            }
        except Exception as error:  # noqa: BLE001 - the top of this process: every failure is an answer
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"[:300]}
        finally:
            os.close(source)
            os.close(target)
        channel.send(json.dumps(answer).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
