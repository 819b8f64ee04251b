"""What moves the answers and should not: pasted boxes, covered letters, blanked lungs, windows, headers.

Every change is made to the grey picture before the preparation, on the same films, and compared with the
answers to the films as they are. Only films that were judged are looked at.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from triage.assess.errors import PixelError
from triage.assess.pixels import read_film
from triage.assess.prepare import KEPT
from triage.assess.registry import Model
from triage.domain.finding import CLASSES
from triage.learn.answers import Answers, Floats, Infers, answers_of, logits
from triage.learn.cache import Pictures, as_kept
from triage.learn.changes import reread
from triage.learn.data import Films
from triage.learn.evaluate import Evaluation
from triage.learn.features import common_sources, features, source_read
from triage.learn.labels import NORMAL, TB
from triage.learn.measures import auroc, confusion, rates, rounded

Picture = npt.NDArray[np.uint8]
Figures = dict[str, Any]

#: Films looked at, spread over the sources and labels as the split has them.
FILMS = 240
_SEED = 11
_WHITE = 250
#: Seven eighths of an edge. A film cut to these in height looks as one that was wider before.
_MIDDLE = slice(KEPT // 16, KEPT - KEPT // 16)


def _boxed(picture: Picture) -> Picture:
    """Two white boxes near the upper corners, as they cover names in one source of tuberculosis."""
    changed = picture.copy()
    side = len(changed)
    changed[side // 20 : side // 8, side // 16 : side // 3] = 255
    changed[side // 20 : side // 8, -side // 4 : -side // 16] = 255
    return changed


def _covered(picture: Picture) -> Picture:
    """Every white patch (boxes, letters) painted over with what surrounds it."""
    mask = cv2.dilate((picture >= _WHITE).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(cv2.inpaint(picture, mask, 3, cv2.INPAINT_TELEA), np.uint8)


def _blanked(picture: Picture) -> Picture:
    """The middle, where the lungs are, replaced by its mean: only the rest can be read."""
    changed = picture.copy()
    low, high = len(changed) * 12 // 100, len(changed) * 88 // 100
    changed[low:high, low:high] = int(changed[low:high, low:high].mean())
    return changed


def _window(low: float, high: float) -> Callable[[Picture], Picture]:
    def change(picture: Picture) -> Picture:
        bottom, top = np.quantile(picture, [low, high])
        scaled = (picture.astype(np.float32) - bottom) / max(1.0, top - bottom)
        return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)

    return change


def _gamma(power: float) -> Callable[[Picture], Picture]:
    table = (255 * (np.arange(256) / 255) ** power + 0.5).astype(np.uint8)
    return lambda picture: table[picture]


def _halved(picture: Picture) -> Picture:
    small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, picture.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _jpeg(picture: Picture) -> Picture:
    return reread(picture, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 30)


def _turned(picture: Picture) -> Picture:
    middle = (picture.shape[1] / 2, picture.shape[0] / 2)
    turn = cv2.getRotationMatrix2D(middle, 5, 1.0)
    return np.asarray(cv2.warpAffine(picture, turn, picture.shape[::-1]), np.uint8)


def _part(rows: slice, columns: slice = slice(None)) -> Callable[[Picture], Picture]:
    """Return what shows a part of a film only, stretched to where the whole film lay."""
    return lambda picture: np.asarray(cv2.resize(picture[rows, columns], picture.shape[::-1]), np.uint8)


def _object(photometric: str, window: tuple[int, int] | None = None) -> Callable[[Picture], Picture]:
    """Return what the service reads from a DICOM object of the film; black where it refuses the film."""

    def change(picture: Picture) -> Picture:
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.SOPClassUID, made.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "2.25.1"
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, photometric
        made.Rows, made.Columns = picture.shape
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
        if window:
            made.WindowCenter, made.WindowWidth = window
        made.PixelData = (255 - picture if photometric == "MONOCHROME1" else picture).tobytes()
        made["PixelData"].VR = "OB"
        file = io.BytesIO()
        dcmwrite(file, made, enforce_file_format=True)
        try:
            return as_kept(read_film(file.getvalue()))
        except PixelError:
            return np.zeros_like(picture)

    return change


#: What a hospital's equipment may do to a film without changing what it shows.
ROBUSTNESS: dict[str, Callable[[Picture], Picture]] = {
    "gamma 0.6": _gamma(0.6),
    "gamma 1.6": _gamma(1.6),
    "narrow window": _window(0.03, 0.97),
    "half the resolution": _halved,
    "JPEG quality 30": _jpeg,
    "turned by 5 degrees": _turned,
    "an eighth of the height cut off": _part(_MIDDLE),
    "an eighth of the width cut off": _part(slice(None), _MIDDLE),
    "as MONOCHROME1": _object("MONOCHROME1"),
    "with a narrow window in the header": _object("MONOCHROME2", window=(96, 48)),
}

#: What a film may come as that is no upright frontal film any more, header or not.
SPOILT: dict[str, Callable[[Picture], Picture]] = {
    "as its own negative": lambda picture: 255 - picture,
    "on its left side": lambda picture: np.rot90(picture, 1),
    "on its right side": lambda picture: np.rot90(picture, 3),
    "upside down": lambda picture: np.rot90(picture, 2),
    "its upper half": _part(slice(None, KEPT // 2)),
    "a quarter of it": _part(slice(None, KEPT // 2), slice(None, KEPT // 2)),
    "blurred beyond recognition": lambda picture: np.asarray(cv2.GaussianBlur(picture, (0, 0), 30), np.uint8),
}


@dataclass(frozen=True)
class _Judge:
    model: Model
    engine: Infers
    films: Films
    pictures: Pictures

    def __call__(self, rows: npt.NDArray[np.int64], change: Callable[[Picture], Picture]) -> Answers:
        changed = np.array([change(np.asarray(self.pictures[row])) for row in rows], np.uint8)
        values = logits(self.engine, changed, np.arange(len(rows)), self.model.size)
        return answers_of(self.films.take(rows), values, self.model.scale)


def audit(model: Model, engine: Infers, network: torch.nn.Module, made: Evaluation) -> Figures:
    """Return what each change does, on at most `FILMS` of the frontal films of an evaluation.

    What is asked of tuberculosis films is asked of all that there are. `engine` gives the answers;
    `network` is the model's own in torch, of which the features are looked at.
    """
    judge = _Judge(model, engine, made.films, made.pictures)
    judged = made.judgement.judged.films
    rows = _some(made.indices[judged.frontal])
    plain = judge(rows, lambda picture: picture)
    normal = plain.films.codes == NORMAL
    tb = made.indices[judged.codes == TB]
    return {
        "films": len(rows),
        "shortcuts": {
            "white boxes pasted on normal films": _moved(judge, rows[normal], plain.take(normal), _boxed),
            "an eighth of the height cut off normal films": _moved(
                judge, rows[normal], plain.take(normal), _part(_MIDDLE)
            ),
            "boxes and letters covered in tuberculosis films": _moved(
                judge, tb, judge(tb, lambda picture: picture), _covered, TB
            ),
            "middle of the film blanked": _blanking(judge, rows, plain),
            "source read from the features of normal films": _source(model, network, made, rows[normal]),
        },
        "robustness": {name: _moved(judge, rows, plain, change) for name, change in ROBUSTNESS.items()},
        "gate": {name: _turned_away(judge, rows, change) for name, change in SPOILT.items()},
    }


def _some(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    chosen = np.random.default_rng(_SEED).permutation(rows)[:FILMS]
    return np.sort(chosen)


def _score(answers: Answers, code: int | None) -> Floats:
    return answers.diseased if code is None else np.asarray(answers.classes[:, code])


def _moved(
    judge: _Judge,
    rows: npt.NDArray[np.int64],
    plain: Answers,
    change: Callable[[Picture], Picture],
    code: int | None = None,
) -> Figures:
    """Return how a change moves a probability (any disease, or one class) and how many decisions flip."""
    if not len(rows):
        return {"n": 0}
    before, after = _score(plain, code), _score(judge(rows, change), code)
    threshold = judge.model.any_disease.high if code is None else 0.5
    truth = plain.films.codes != NORMAL
    found: Figures = {
        "n": len(rows),
        "mean_before": rounded(float(before.mean())),
        "mean_after": rounded(float(after.mean())),
        "mean_change": rounded(float(np.abs(after - before).mean())),
        "flipped": rounded(float(((before >= threshold) != (after >= threshold)).mean())),
    }
    if code is None and truth.any() and not truth.all():
        found |= {"auroc_before": rounded(auroc(truth, before)), "auroc_after": rounded(auroc(truth, after))}
    return found


def _blanking(judge: _Judge, rows: npt.NDArray[np.int64], plain: Answers) -> Figures:
    """Return what is left of any disease and of the six classes when the lungs are gone."""
    blank = judge(rows, _blanked)
    truth = plain.films.codes != NORMAL
    single = plain.films.codes < plain.classes.shape[1]
    codes = plain.films.codes[single]

    def balanced(answers: Answers) -> float | None:
        if not len(codes):
            return None
        said = answers.classes[single].argmax(axis=1)
        return rounded(
            float(rates(confusion(codes, said, len(CLASSES)).astype(np.float64))["balanced_accuracy"])
        )

    return {
        "n": len(rows),
        "auroc_before": rounded(auroc(truth, plain.diseased)),
        "auroc_after": rounded(auroc(truth, blank.diseased)),
        "balanced_accuracy_before": balanced(plain),
        "balanced_accuracy_after": balanced(blank),
        "passed_by_the_gate": rounded(float((blank.gate >= judge.model.gate).mean())),
    }


def _source(model: Model, network: torch.nn.Module, made: Evaluation, rows: npt.NDArray[np.int64]) -> Figures:
    """Return how well the source of films can be told from their features; nothing where one is alone."""
    sources = made.films.take(rows).sources
    common = common_sources(sources)
    if not common.any():
        return {"n": 0}
    return source_read(features(network, made.pictures, rows[common], model.size), sources[common])


def _turned_away(judge: _Judge, rows: npt.NDArray[np.int64], change: Callable[[Picture], Picture]) -> Figures:
    """Return how many of the spoilt films the gate turns away."""
    gates = judge(rows, change).gate
    return {"n": len(rows), "turned_away": rounded(float((gates < judge.model.gate).mean()))}
