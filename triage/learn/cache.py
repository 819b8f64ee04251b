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
from triage.assess.pixels import read_film
from triage.assess.prepare import reduce
from triage.assess.source import is_dicom
from triage.errors import DataError
from triage.learn.data import Films

#: Edge of the kept pictures: as large as any stage trains on.
SIDE = 224

Pictures = npt.NDArray[np.uint8]


def cache_dir(override: Path | None = None) -> Path:
    """Return where decoded films are kept: the given folder, else the user's cache."""
    return override or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "triage" / "films"


def pictures(films: Films, folder: Path, threads: int = 2) -> Pictures:
    """Return the films as uint8 [N, 224, 224], memory-mapped; decoded on the first call only.

    Raises:
        DataError: a picture can't be read, or the disk has no room.
    """
    kept = folder / f"{_key(films)}.npy"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}.partial")
        try:
            _decode(films, partial, threads)
            partial.replace(kept)
        except OSError as error:
            msg = f"The decoded films can't be kept in {folder}: {error.strerror}; give another with --cache."
            raise DataError(msg) from error
        finally:
            partial.unlink(missing_ok=True)
    return np.load(kept, mmap_mode="r")


def _key(films: Films) -> str:
    """Return a name that changes with the files, their sizes and their order."""
    state = hashlib.sha256(str(SIDE).encode())
    for row in films.rows:
        state.update(f"{row.file}\0{(films.root / row.file).stat().st_size}\n".encode())
    return state.hexdigest()[:32]


def _decode(films: Films, target: Path, threads: int) -> None:
    kept = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=(len(films), SIDE, SIDE))

    def one(index: int) -> None:
        kept[index] = decode(films.root / films.rows[index].file)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, range(len(films))):
            pass
    kept.flush()


def decode(path: Path) -> npt.NDArray[np.uint8]:
    """Return one film as uint8 [224, 224]; DICOM goes through the service's own pixel chain.

    Raises:
        DataError: the file can't be read as a picture.
    """
    try:
        if is_dicom(path):
            grey = read_film(path).picture * 255
        else:
            read = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if read is None:
                msg = f"{path} can't be read as a picture."
                raise DataError(msg)
            if read.shape == (SIDE, SIDE):
                return np.asarray(read, np.uint8)
            grey = read.astype(np.float32)
    except PixelError as error:
        msg = f"{path} can't be read: {error}"
        raise DataError(msg) from error
    return np.clip(reduce(np.ascontiguousarray(grey, np.float32), SIDE) + 0.5, 0, 255).astype(np.uint8)
