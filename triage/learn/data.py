"""Films with labels, from the forms that people keep them in.

Three forms are read: a folder with an `index.csv`, the folders of the well-known competitions
(`train|val|test/CLASS/*.jpg`), and a folder of DICOM or picture files with a `labels.csv`.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from triage.errors import DataError
from triage.learn.labels import CODE_NOT_FRONTAL, code_of, label_of_folder

SPLITS = ("train", "val", "test")
#: In place of the split of films from which a training must learn nothing.
LEFT_OUT = "left out"
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".dcm", ".dicom"})
#: Where a set brings no split: up to these hundredths of the hash a patient is validation, then test.
_VAL_SHARE, _TEST_SHARE = 12, 26

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FilmRow:
    """One film as its set describes it; what is not known is an empty text."""

    file: str
    source: str
    label: str
    patient: str
    split: str = ""
    original_label: str = ""
    view: str = "unknown"
    age: str = ""
    sex: str = ""
    boxed: bool = False
    licence: str = "unstated"


@dataclass(frozen=True)
class Films:
    """A set of films; the order of `rows` is the order of every array about them."""

    root: Path
    rows: tuple[FilmRow, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def codes(self) -> npt.NDArray[np.int64]:
        """Return the label codes of `triage.learn.labels`."""
        return np.array([code_of(row.label, row.file) for row in self.rows], dtype=np.int64)

    @cached_property
    def frontal(self) -> Mask:
        """Return which films are labelled as frontal chest films."""
        return self.codes < CODE_NOT_FRONTAL

    def column(self, read: Callable[[FilmRow], str]) -> npt.NDArray[np.str_]:
        """Return one value of every row as an array of text."""
        return np.array([read(row) for row in self.rows], dtype=np.str_)

    @cached_property
    def sources(self) -> npt.NDArray[np.str_]:
        """Return the source of every film."""
        return self.column(lambda row: row.source)

    @cached_property
    def splits(self) -> npt.NDArray[np.str_]:
        """Return the split of every film."""
        return self.column(lambda row: row.split)

    def take(self, chosen: Mask | npt.NDArray[np.int64]) -> Films:
        """Return the films of a mask or of indices."""
        indices = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        return Films(self.root, tuple(self.rows[index] for index in indices))

    def without(self, sources: Sequence[str], keep: str = "") -> Films:
        """Return the same films, those of some sources in no split but `keep`.

        Raises:
            DataError: there is no such source.
        """
        for source in sources:
            if source not in self.sources:
                known = ", ".join(np.unique(self.sources))
                msg = f"{self.root} has no source '{source}' that could be left out; it has: {known}."
                raise DataError(msg)
        rows = (
            replace(row, split=LEFT_OUT) if row.source in sources and row.split != keep else row
            for row in self.rows
        )
        return Films(self.root, tuple(rows))

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of what the set says: files, labels, patients and splits, in order."""
        state = hashlib.sha256()
        for row in self.rows:
            state.update("\0".join((row.file, row.source, row.label, row.patient, row.split, "\n")).encode())
        return state.hexdigest()


def read_films(root: Path, labels: Path | None = None) -> Films:
    """Return the films of a folder, whichever form it has; patients never cross splits.

    `labels` is a table of them that lies elsewhere, for a folder that can't be written.

    Raises:
        DataError: the folder has no known form, names a file that is missing, has an unknown label, or
            puts a patient into two splits.
    """
    tables = [labels] if labels else [root / "index.csv", root / "labels.csv"]
    table = next((path for path in tables if path.is_file()), None)
    if table is not None:
        rows = _from_table(root, table)
    elif labels is not None:
        msg = f"The table of labels {labels} is not there."
        raise DataError(msg)
    elif any((root / split).is_dir() for split in SPLITS):
        rows = _from_folders(root)
    else:
        msg = f"{root} holds no index.csv, labels.csv or train, val and test; give the folder of the films."
        raise DataError(msg)
    if not rows:
        msg = f"{root} names no films."
        raise DataError(msg)
    films = Films(root, tuple(_with_splits(rows)))
    _ = films.codes
    _refuse_shared_patients(films.rows)
    return films


def split_of(patient: str) -> str:
    """Return the split of a patient where the set brings none; the same everywhere and for ever."""
    hundredth = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") % 100
    if hundredth < _VAL_SHARE:
        return "val"
    return "test" if hundredth < _TEST_SHARE else "train"


def _from_table(root: Path, table: Path) -> list[FilmRow]:
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        lacking = {"file", "label"} - set(reader.fieldnames or ())
        if lacking:
            msg = f"{table} has no column '{sorted(lacking)[0]}'."
            raise DataError(msg)
        rows = [_row(raw, root.name) for raw in reader]
    for row in rows:
        path = (root / row.file).resolve()
        if not path.is_relative_to(root.resolve()):
            msg = f"{table} names {row.file}, which lies outside {root}."
            raise DataError(msg)
        if not path.is_file():
            msg = f"{table} names {row.file}, which is not there."
            raise DataError(msg)
    return rows


def _row(raw: dict[str, str | None], fallback: str) -> FilmRow:
    def value(key: str, default: str = "") -> str:
        return (raw.get(key) or "").strip() or default

    source = value("source", fallback)
    return FilmRow(
        file=value("file"),
        source=source,
        label=value("label"),
        patient=value("patient") or f"{source}:{value('file')}",
        split=value("split"),
        original_label=value("original_label"),
        view=value("view", "unknown"),
        age=value("age"),
        sex=value("sex"),
        boxed=bool(value("boxes")),
        licence=value("licence", "unstated"),
    )


def _from_folders(root: Path) -> list[FilmRow]:
    rows = []
    for split in SPLITS:
        for folder in sorted(entry for entry in (root / split).glob("*") if entry.is_dir()):
            for file in sorted(entry for entry in folder.rglob("*") if entry.suffix.lower() in _SUFFIXES):
                label = label_of_folder(folder.name, file.name)
                rows.append(
                    FilmRow(file.relative_to(root).as_posix(), root.name, label, _patient(file), split)
                )
    return rows


def _patient(file: Path) -> str:
    """Return the patient that names such as `person12_bacteria_47` tell, else the file's own name."""
    head = file.stem.split("_")[0]
    return head if head.startswith("person") and head[6:].isdigit() else file.stem


def _with_splits(rows: Sequence[FilmRow]) -> Iterable[FilmRow]:
    for row in rows:
        if row.split in SPLITS:
            yield row
        elif not row.split:
            yield replace(row, split=split_of(row.patient))
        else:
            msg = f"{row.file} has the split '{row.split}'; there are train, val and test."
            raise DataError(msg)


def _refuse_shared_patients(rows: Sequence[FilmRow]) -> None:
    seen: dict[tuple[str, str], FilmRow] = {}
    for row in rows:
        first = seen.setdefault((row.source, row.patient), row)
        if first.split != row.split:
            msg = (
                f"One patient has {first.file} in {first.split} and {row.file} in {row.split}; "
                "a patient must stay in one split."
            )
            raise DataError(msg)
