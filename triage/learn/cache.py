"""Films decoded once: a memory-mapped array of grey pictures that every epoch reads."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from triage.assess.errors import PixelError
from triage.assess.film import Film
from triage.assess.pixels import read_film, read_picture
from triage.assess.prepare import KEPT
from triage.assess.source import is_dicom
from triage.errors import DataError
from triage.learn.data import Films
from triage.learn.progress import progress

#: Raised whenever `decode` makes other pixels of the same file, so that no older ones are read.
_DECODING = 2

Pictures = npt.NDArray[np.uint8]


def cache_dir(override: Path | None = None) -> Path:
    """Return where decoded films are kept: the given folder, else the user's cache."""
    return override or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "triage" / "films"


def pictures(films: Films, folder: Path, threads: int = 2) -> Pictures:
    """Return the films as uint8 [N, 224, 224], memory-mapped; decoded on the first call only.

    Raises:
        DataError: a picture can't be read, or the folder or its disk can't take them all.
    """
    kept = folder / f"{_key(films)}.npy"
    if folder.is_file():
        msg = f"{folder} is a file, and decoded films are kept in a folder; give one with --cache."
        raise DataError(msg)
    partial = kept.with_suffix(f".{os.getpid()}.partial")
    try:
        if not kept.exists():
            folder.mkdir(parents=True, exist_ok=True)
            try:
                _decode(films, partial, threads)
                partial.replace(kept)
            finally:
                partial.unlink(missing_ok=True)
        return np.load(kept, mmap_mode="r")
    except OSError as error:
        size = f"{len(films) * KEPT * KEPT / 1e6:,.1f} MB of decoded films"
        msg = f"{size} can't be kept in {folder}: {error.strerror}; make room, or give another with --cache."
        raise DataError(msg) from error


def _key(films: Films) -> str:
    """Return a name that changes with the folder, its files, their order, and how they are decoded."""
    state = hashlib.sha256(f"{_DECODING}\0{KEPT}\0{films.root.resolve()}\n".encode())
    for row in films.rows:
        path = films.root / row.file
        try:
            said = path.stat()
        except OSError as error:
            msg = f"{path} can't be read: {error.strerror}."
            raise DataError(msg) from error
        state.update(f"{row.file}\0{said.st_size}\0{said.st_mtime_ns}\n".encode())
    return state.hexdigest()[:32]


def _decode(films: Films, target: Path, threads: int) -> None:
    shape = (len(films), KEPT, KEPT)
    paths = [films.root / row.file for row in films.rows]
    with (
        target.open("wb") as file,
        progress("decoding films", len(films)) as advance,
        ThreadPoolExecutor(threads) as pool,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        # a disk without room for all says so before the first film is decoded
        os.posix_fallocate(file.fileno(), 0, file.tell() + len(films) * KEPT * KEPT)
        for picture in pool.map(decode, paths):
            file.write(picture.tobytes())
            advance(1)


def decode(path: Path) -> npt.NDArray[np.uint8]:
    """Return one film as uint8 [224, 224], through the service's own pixel chain.

    A picture that has that size and 8 bits already is taken as it is.

    Raises:
        DataError: the file can't be read as a film.
    """
    try:
        if is_dicom(path):
            film = read_film(path)
        else:
            small = _small(path)
            if small is not None:
                return small
            film = read_picture(path)
        return as_kept(film)
    except PixelError as error:
        msg = f"{path} can't be read: {error} Take it out of the set, or put a readable copy in its place."
        raise DataError(msg) from error
    except OSError as error:
        msg = f"{path} can't be read: {error.strerror}."
        raise DataError(msg) from error


def as_kept(film: Film) -> npt.NDArray[np.uint8]:
    """Return a film as learning keeps it: uint8 [224, 224]."""
    return np.clip(film.reduced(KEPT) * 255 + 0.5, 0, 255).astype(np.uint8)


def _small(path: Path) -> npt.NDArray[np.uint8] | None:
    """Return a picture of 8 bits that is as large as the kept ones, else None."""
    try:
        # unlike imread, it refuses a file that ends too early
        grey = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_ANYDEPTH)
    except cv2.error:  # empty, or too large for a film; the pixel chain has the sentence
        return None
    fits = grey is not None and grey.shape == (KEPT, KEPT) and grey.dtype == np.uint8
    return np.asarray(grey, np.uint8) if fits else None
