"""Films with labels, from the forms that people keep them in.

Three forms are read: a folder with an `index.csv`, the folders of the well-known competitions
(`train|val|test/CLASS/*.jpg`), and a folder of DICOM or picture files with a `labels.csv`.
"""

from __future__ import annotations

import csv
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from triage.assess.attributes import UNREADABLE, text
from triage.assess.source import is_dicom
from triage.errors import DataError
from triage.learn.labels import CODE_NOT_FRONTAL, code_of, label_of_folder, label_of_row

SPLITS = ("train", "val", "test")
#: In place of the split of films from which a training must learn nothing.
LEFT_OUT = "left out"
#: The folders that hold the splits, in lower case.
_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".dcm", ".dicom"})
#: Where a set brings no split: up to these hundredths of the hash a patient is validation, then test.
_VAL_SHARE, _TEST_SHARE = 12, 26
#: Names such as `person12_bacteria_47`: bacterial and viral films are numbered each for themselves.
_PERSON = re.compile(r"(person\d+)_([a-z]+)_", re.IGNORECASE)

#: What a DICOM file may tell beside its pixels.
_TOLD = ["PatientID", "IssuerOfPatientID", "ViewPosition", "PatientAge", "PatientSex"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FilmRow:
    """One film as its set describes it; what is not known is an empty text.

    `patient` is a key that means the same patient in every source of the set; a film of nobody known has one
    of its own.
    """

    file: str
    source: str
    label: str
    patient: str
    split: str = ""
    original_label: str = ""
    view: str = ""
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
    def patients(self) -> npt.NDArray[np.str_]:
        """Return the key of every film's patient, to be used as it is: equal keys are one patient.

        They hold across sources, since hospitals are in several sets; nothing need be put before them.
        """
        return self.column(lambda row: row.patient)

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
    elif folders := _split_folders(root):
        rows = _from_folders(root, folders)
    else:
        msg = f"{root} holds no index.csv, labels.csv or train, val and test; give the folder of the films."
        raise DataError(msg)
    if not rows:
        msg = f"{root} names no films."
        raise DataError(msg)
    rows = [_completed(root, row) for row in rows]
    _refuse_one_patient(root, rows)
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
    inside, lines, rows = root.resolve(), dict[Path, int](), []
    for line, raw in _lines(table):
        row = _row(raw, root.name)
        path = (root / row.file).resolve()
        if not row.file:
            msg = f"{table} names no file in line {line}."
            raise DataError(msg)
        if not path.is_relative_to(inside):
            msg = f"{table} names {row.file}, which lies outside {root}."
            raise DataError(msg)
        if not path.is_file():
            msg = f"{table} names {row.file}, which is not there."
            raise DataError(msg)
        if lines.setdefault(path, line) != line:
            msg = f"{table} names {row.file} in lines {lines[path]} and {line}; give each film one line."
            raise DataError(msg)
        rows.append(row)
    return rows


def _lines(table: Path) -> list[tuple[int, dict[str, str | None]]]:
    """Return the number and the values of every line of a table, by the names of its columns in lower case.

    Commas or semicolons part the values, as Excel writes one or the other.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            semicolons = head.count(";") > head.count(",")
            reader = csv.DictReader(file, delimiter=";" if semicolons else ",", strict=True)
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            for column in ("file", "label"):
                if column not in names:
                    msg = f"{table} has no column '{column}'; its first line must name file and label."
                    raise DataError(msg)
            return [(reader.line_num, raw) for raw in reader]
    except UnicodeDecodeError:
        msg = f"{table} is not UTF-8 text; save it as CSV in UTF-8."
        raise DataError(msg) from None
    except csv.Error as error:
        msg = f"{table} can't be read as a table ({error}); save it as CSV with a short line for each film."
        raise DataError(msg) from None
    except OSError as error:
        msg = f"{table} can't be read: {error.strerror}."
        raise DataError(msg) from None


def _row(raw: dict[str, str | None], fallback: str) -> FilmRow:
    def value(key: str, default: str = "") -> str:
        return (raw.get(key) or "").strip() or default

    return FilmRow(
        file=value("file"),
        source=value("source", fallback),
        label=label_of_row(value("label"), Path(value("file")).name),
        patient=value("patient"),
        split=value("split"),
        original_label=value("original_label"),
        view="" if value("view") == "unknown" else value("view"),
        age=value("age"),
        sex=value("sex"),
        boxed=bool(value("boxes")),
        licence=value("licence", "unstated"),
    )


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    """Return the folders of the splits, train first."""
    found = [
        (_SPLIT_FOLDERS[entry.name.lower()], entry)
        for entry in (root.iterdir() if root.is_dir() else ())
        if entry.name.lower() in _SPLIT_FOLDERS and entry.is_dir()
    ]
    return sorted(found, key=lambda one: (SPLITS.index(one[0]), one[1].name))


def _from_folders(root: Path, folders: Sequence[tuple[str, Path]]) -> list[FilmRow]:
    rows = []
    for split, home in folders:
        for file in sorted(entry for entry in home.glob("*/**/*") if entry.suffix.lower() in _SUFFIXES):
            parts = file.relative_to(home).parts
            # what begins with a dot was left by a notebook, a Mac or an editor
            if not any(part.startswith(".") for part in parts):
                label = label_of_folder(parts[0], file.name)
                patient = _patient_of_name(file.stem)
                rows.append(FilmRow(file.relative_to(root).as_posix(), root.name, label, patient, split))
    return rows


def _patient_of_name(stem: str) -> str:
    """Return the patient that a name such as `person12_bacteria_47` tells, with the kind; else nothing."""
    found = _PERSON.match(stem)
    return f"{found[1]}:{found[2]}".lower() if found else ""


def _completed(root: Path, row: FilmRow) -> FilmRow:
    """Return a row with what it leaves open as a DICOM file's header says it: patient, view, age, sex."""
    if row.patient and row.view and row.age and row.sex:
        return row
    header = _header(root / row.file)
    return replace(
        row,
        patient=row.patient or _pseudonym(header) or f"{row.source}:{row.file}",
        view=row.view or text(header, "ViewPosition"),
        age=row.age or text(header, "PatientAge"),
        sex=row.sex or text(header, "PatientSex"),
    )


def _header(path: Path) -> Dataset:
    """Return what a DICOM file says of patient and view; nothing of a picture, or where it is broken."""
    try:
        if is_dicom(path):
            return dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TOLD)
    except (*UNREADABLE, zlib.error):  # its pixels are read later, and then there is a sentence
        pass
    return Dataset()


def _pseudonym(header: Dataset) -> str:
    """Return a pseudonym of a patient, the same in every set; nothing without an id. It is kept nowhere."""
    if not text(header, "PatientID"):
        return ""
    said = f"{text(header, 'IssuerOfPatientID')}|{text(header, 'PatientID')}"
    return f"dicom:{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _refuse_one_patient(root: Path, rows: Sequence[FilmRow]) -> None:
    """Raise where splits must be made of films that are all said to be of one patient."""
    if len(rows) > 1 and len({row.patient for row in rows}) == 1 and not any(row.split for row in rows):
        msg = (
            f"All {len(rows)} films of {root} have one patient and no split; name the patients in a column "
            "'patient' of the table, or the splits in a column 'split'."
        )
        raise DataError(msg)


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
    seen: dict[str, FilmRow] = {}
    for row in rows:
        first = seen.setdefault(row.patient, row)
        if first.split != row.split:
            msg = (
                f"One patient has {first.file} in {first.split} and {row.file} in {row.split}; "
                "a patient must stay in one split, also when the films are of two sources."
            )
            raise DataError(msg)
