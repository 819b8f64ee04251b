"""Films decoded once: which file's pixels are read, and that they are those of the service."""

from __future__ import annotations

import csv
import os
import pty
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from triage.assess.pixels import read_film, read_picture
from triage.assess.prepare import KEPT
from triage.errors import DataError
from triage.learn.cache import decode, pictures
from triage.learn.data import read_films


def grain(seed: int, rows: int = 60, columns: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (rows, columns), np.uint8)


def films_of(root: Path, *seeds: int) -> Path:
    """Write uncompressed pictures, all of one size, and their table."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "index.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("file", "label", "split"))
        for number, seed in enumerate(seeds):
            cv2.imwrite(str(root / f"{number}.bmp"), grain(seed))
            writer.writerow((f"{number}.bmp", "normal", "train"))
    return root


def save_dicom(path: Path, words: np.ndarray, **attributes: object) -> Path:
    film = Dataset()
    film.SOPClassUID, film.SOPInstanceUID, film.Modality = ComputedRadiographyImageStorage, "2.25.1", "CR"
    film.Rows, film.Columns, film.SamplesPerPixel = *words.shape, 1
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PhotometricInterpretation, film.PixelData = "MONOCHROME2", words.astype(np.uint16).tobytes()
    for name, value in attributes.items():
        setattr(film, name, value)
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.save_as(path, enforce_file_format=True)
    return path


def served(film) -> np.ndarray:
    """The film as the service reduces it, in the 8 bits that are kept."""
    return np.clip(film.reduced(KEPT) * 255 + 0.5, 0, 255).astype(np.uint8)


def test_films_are_decoded_once_and_again_when_a_file_changes(tmp_path):
    root, cache = films_of(tmp_path / "set", 1, 2), tmp_path / "cache"
    first = np.array(pictures(read_films(root), cache))
    assert first.shape == (2, KEPT, KEPT)
    assert np.array_equal(first[1], decode(root / "1.bmp"))
    assert np.array_equal(pictures(read_films(root), cache), first)
    assert len(list(cache.iterdir())) == 1
    # another film in its place, of as many bytes
    size = (root / "0.bmp").stat().st_size
    cv2.imwrite(str(root / "0.bmp"), grain(3))
    assert (root / "0.bmp").stat().st_size == size
    assert np.array_equal(pictures(read_films(root), cache)[0], decode(root / "0.bmp"))


def test_folders_with_equal_names_and_sizes_keep_their_own_films(tmp_path):
    one, other, cache = films_of(tmp_path / "a", 1), films_of(tmp_path / "b", 2), tmp_path / "cache"
    moment = (one / "0.bmp").stat()
    os.utime(other / "0.bmp", ns=(moment.st_atime_ns, moment.st_mtime_ns))
    pictures(read_films(one), cache)
    assert np.array_equal(pictures(read_films(other), cache)[0], decode(other / "0.bmp"))


def test_what_an_older_decoding_kept_is_not_read(tmp_path, monkeypatch):
    root, cache = films_of(tmp_path / "set", 1), tmp_path / "cache"
    pictures(read_films(root), cache)
    monkeypatch.setattr("triage.learn.cache._DECODING", 0)
    pictures(read_films(root), cache)
    assert len(list(cache.iterdir())) == 2


def test_a_dicom_file_goes_through_the_pixel_chain(tmp_path):
    ramp = np.tile(np.linspace(0, 4095, 200), (240, 1))
    grey = decode(save_dicom(tmp_path / "film.dcm", ramp, PhotometricInterpretation="MONOCHROME1"))
    assert grey.shape == (KEPT, KEPT)
    # MONOCHROME1: the highest value is black
    assert grey[:, 5].mean() > 200 > 50 > grey[:, -5].mean()


def test_a_broad_border_is_cut_as_the_service_cuts_it(tmp_path):
    bordered = np.zeros((400, 400))
    bordered[100:320, 90:310] = np.random.default_rng(0).integers(200, 4000, (220, 220))
    path = save_dicom(tmp_path / "film.dcm", bordered)
    assert "border" in read_film(path).quirks
    assert np.array_equal(decode(path), served(read_film(path)))
    assert decode(path)[:, :20].std() > 20


def test_a_picture_is_read_as_classify_reads_it(tmp_path):
    # 12 bits of a detector in a picture of 16: only the lowest sixteenth of the range is used
    ramp = np.tile(np.linspace(0, 4095, 300), (280, 1)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), ramp)
    grey = decode(tmp_path / "deep.png")
    assert np.array_equal(grey, served(read_picture(tmp_path / "deep.png")))
    assert len(np.unique(grey)) > 200
    cv2.imwrite(str(tmp_path / "deep.png"), np.rot90(ramp)[:KEPT, :KEPT])
    assert len(np.unique(decode(tmp_path / "deep.png"))) > 100


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_picture_of_the_kept_size_stays_as_it_is(tmp_path, suffix):
    # what is below and above the percentiles too, and one that is nearly blank
    for seed, picture in enumerate((grain(0, KEPT, KEPT), np.full((KEPT, KEPT), 7, np.uint8))):
        path = tmp_path / f"{seed}{suffix}"
        cv2.imwrite(str(path), picture)
        assert np.array_equal(decode(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


def test_a_file_that_is_no_film_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"a\.png can't be read"):
        decode(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((60, 80), 90, np.uint8))
    with pytest.raises(DataError, match=r"blank\.png .* blank.*Take it out"):
        decode(tmp_path / "blank.png")
    with pytest.raises(DataError, match=r"gone\.png can't be read: No such file"):
        decode(tmp_path / "gone.png")


def test_half_a_picture_of_the_kept_size_is_no_film(tmp_path):
    path = tmp_path / "half.jpg"
    cv2.imwrite(str(path), grain(0, KEPT, KEPT))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"half\.jpg can't be read"):
        decode(path)


def test_a_film_that_cannot_be_read_leaves_nothing(tmp_path):
    root = films_of(tmp_path / "set", 1, 2)
    (root / "1.bmp").write_bytes(b"BM and no more")
    with pytest.raises(DataError, match=r"1\.bmp"):
        pictures(read_films(root), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_where_a_folder_belongs_is_named(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataError, match=r"cache is a file.*--cache"):
        pictures(read_films(films_of(tmp_path / "set", 1)), tmp_path / "cache")


def test_a_disk_that_refuses_is_one_sentence_and_leaves_nothing(tmp_path):
    films = read_films(films_of(tmp_path / "set", 1, 2))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DataError, match=r"0\.1 MB of decoded films can't be kept .* make room"):
            pictures(films, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "cache").iterdir()) == []


_FILL_UP = """
import sys
from pathlib import Path

from triage.errors import DataError
from triage.learn.cache import pictures
from triage.learn.data import read_films

data, disk = map(Path, sys.argv[1:])
try:
    pictures(read_films(data), disk)
except DataError as error:
    print(error, list(disk.iterdir()))
"""


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    small = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=128k none {disk} && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*small, "true"], capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    root = films_of(tmp_path / "set", *range(8))
    command = [*small, sys.executable, "-c", _FILL_UP, str(root), str(disk)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "No space left on device; make room" in ended.stdout
    assert ended.stdout.endswith("[]\n")


def test_decoding_has_a_bar_on_a_terminal(tmp_path, monkeypatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        pictures(read_films(films_of(tmp_path / "set", 1)), tmp_path / "cache")
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "decoding films" in shown
