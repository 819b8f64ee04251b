"""What a film may show, and how an answer about it is put."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Finding(StrEnum):
    """The diseases that the classifier names; `normal` is an outcome, never a finding."""

    BACTERIAL_PNEUMONIA = "bacterial_pneumonia"
    VIRAL_PNEUMONIA = "viral_pneumonia"
    COVID19 = "covid19"
    TUBERCULOSIS = "tuberculosis"
    OTHER = "other"


#: How a finding is named in a sentence, as in "appearance resembling ..."; the model judges a picture only.
WORDS: dict[Finding, str] = {
    Finding.BACTERIAL_PNEUMONIA: "bacterial pneumonia",
    Finding.VIRAL_PNEUMONIA: "viral pneumonia",
    Finding.COVID19: "COVID-19",
    Finding.TUBERCULOSIS: "tuberculosis",
    Finding.OTHER: "another disease",
}

#: The order of the classifier's outputs, here and in every model.toml.
CLASSES: tuple[str, ...] = ("normal", *(finding.value for finding in Finding))


class FindingState(StrEnum):
    """What the thresholds make of a probability."""

    PRESENT = "present"
    UNDETERMINED = "undetermined"
    ABSENT = "absent"


@dataclass(frozen=True)
class FindingResult:
    """One finding with its calibrated probability (0..1), its thresholds and what they make of it."""

    finding: Finding
    probability: float
    state: FindingState
    #: Below `low` the finding is absent, from `high` on present, between them undetermined.
    low: float
    high: float


def finding_state(probability: float, low: float, high: float) -> FindingState:
    """Return what two thresholds make of a probability; both bounds belong to the upper state."""
    if probability >= high:
        return FindingState.PRESENT
    return FindingState.UNDETERMINED if probability >= low else FindingState.ABSENT


class Outcome(StrEnum):
    """The answer for a film or a study. Silence never means normal."""

    POSITIVE = "positive"
    UNDETERMINED = "undetermined"
    NEGATIVE = "negative"
    NOT_EVALUATED = "not_evaluated"


class NotEvaluated(StrEnum):
    """Why a film has no answer; the codes are stable for ever (they are written into reports)."""

    NOT_FRONTAL = "not-frontal"
    LATERAL_ONLY = "lateral-only"
    NOT_CHEST = "not-chest"
    NOT_CR_DX = "not-cr-dx"
    FOR_PROCESSING = "for-processing"
    NO_PIXELS = "no-pixels"
    UNDECODABLE = "undecodable"
    BAD_GEOMETRY = "bad-geometry"
    TOO_SMALL = "too-small"
    CLIPPED_EXPOSURE = "clipped-exposure"
    PEDIATRIC = "pediatric"
    MULTI_FRAME = "multi-frame"
    LOSSY_TOO_FAR = "lossy-too-far"
    SUPERSEDED = "superseded"
    TIMEOUT = "timeout"
    MODEL_FAILURE = "model-failure"
    SITE_EXCLUDED = "site-excluded"
    PATIENT_MISMATCH = "patient-mismatch"


#: A film that failed for one of these might have shown something: the study is not evaluated in full.
TECHNICAL = frozenset(
    {
        NotEvaluated.UNDECODABLE,
        NotEvaluated.BAD_GEOMETRY,
        NotEvaluated.NO_PIXELS,
        NotEvaluated.CLIPPED_EXPOSURE,
        NotEvaluated.TOO_SMALL,
        NotEvaluated.LOSSY_TOO_FAR,
        NotEvaluated.TIMEOUT,
        NotEvaluated.MODEL_FAILURE,
    }
)

#: One plain phrase for each reason, for the list, the log and the report.
REASON_PHRASES: dict[NotEvaluated, str] = {
    NotEvaluated.NOT_FRONTAL: "the picture is not a frontal chest film",
    NotEvaluated.LATERAL_ONLY: "only lateral films were sent",
    NotEvaluated.NOT_CHEST: "the picture does not show a chest",
    NotEvaluated.NOT_CR_DX: "no chest radiograph is among the objects",
    NotEvaluated.FOR_PROCESSING: "the film is raw data for processing, not for presentation",
    NotEvaluated.NO_PIXELS: "the object has no pixels",
    NotEvaluated.UNDECODABLE: "the pixels could not be decoded",
    NotEvaluated.BAD_GEOMETRY: "the header's rows, columns and bits do not fit the pixels",
    NotEvaluated.TOO_SMALL: "the picture is too small to judge",
    NotEvaluated.CLIPPED_EXPOSURE: "the picture is blank or clipped",
    NotEvaluated.PEDIATRIC: "the patient is younger than this site's limit",
    NotEvaluated.MULTI_FRAME: "the object holds several frames",
    NotEvaluated.LOSSY_TOO_FAR: "the film was compressed too far",
    NotEvaluated.SUPERSEDED: "a newer copy of the film replaced it",
    NotEvaluated.TIMEOUT: "the film took too long to evaluate",
    NotEvaluated.MODEL_FAILURE: "the model failed",
    NotEvaluated.SITE_EXCLUDED: "this site excludes such films",
    NotEvaluated.PATIENT_MISMATCH: "the study came with another patient before",
}
