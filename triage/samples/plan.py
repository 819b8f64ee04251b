"""Which sample studies there are: a day's mixture of healthy, diseased, urgent and misdirected pictures."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from triage.samples.disease import Kind

#: Part of every UID: goes up when a sample becomes another, so that no archive takes one for the other.
EDITION = 2


@dataclass(frozen=True)
class Film:
    """One picture of a study: what is drawn, as which object, in which encoding."""

    #: `frontal`, or a scene of `elsewhere.SCENES`.
    scene: str
    #: `DX`, `CR` or `SC`.
    form: str
    syntax: str
    #: Whether it is stored as MONOCHROME1, the lowest value white.
    inverse: bool = False
    rows: int = 2500
    columns: int = 2048
    bits: int = 12
    #: Which drawing of the patient: films of a study that differ show the patient a moment later.
    take: int = 0


@dataclass(frozen=True)
class StudyPlan:
    """One sample study; `label` is what its names say."""

    number: int
    label: str
    films: tuple[Film, ...]
    kind: Kind = Kind.NORMAL
    build: str = ""
    #: The order's word, as Requested Procedure Priority (0040,1003); empty for none.
    priority: str = ""

    @property
    def diseased(self) -> bool | None:
        """Whether the chest shows disease; None where the study has no frontal chest film."""
        return None if not self.build else self.kind is not Kind.NORMAL


def _dx(syntax: str = ExplicitVRLittleEndian, *, inverse: bool = False) -> Film:
    return Film("frontal", "DX", syntax, inverse=inverse)


def _cr(syntax: str = ExplicitVRLittleEndian, *, inverse: bool = False, take: int = 0) -> Film:
    return Film("frontal", "CR", syntax, inverse=inverse, rows=2140, columns=1760, take=take)


def _child(
    form: str, syntax: str = ExplicitVRLittleEndian, *, inverse: bool = False, bits: int = 12, take: int = 0
) -> Film:
    return Film("frontal", form, syntax, inverse=inverse, rows=2000, columns=2500, bits=bits, take=take)


_SC = Film("frontal", "SC", ExplicitVRLittleEndian, rows=1250, columns=1024, bits=8)
_TALL_SC = Film("frontal", "SC", JPEGLSLossless, rows=2500, columns=2048, inverse=True)
_SIDE = Film("lateral", "DX", JPEGLosslessSV1)

_FEMALE, _MALE, _CHILD = "adult-female", "adult-male", "child"

#: In the order of arrival: so mixed that first-in-first-out and the reading order differ visibly.
STUDIES: tuple[StudyPlan, ...] = (
    StudyPlan(1, "NORMAL", (_dx(),), Kind.NORMAL, _MALE),
    StudyPlan(2, "NORMAL", (_dx(JPEGLosslessSV1, inverse=True),), Kind.NORMAL, _FEMALE),
    StudyPlan(3, "NORMAL", (_child("CR"),), Kind.NORMAL, _CHILD),
    StudyPlan(4, "PNEUMONIA", (_child("DX", JPEG2000Lossless),), Kind.CONSOLIDATION, _CHILD),
    StudyPlan(5, "HAND", (Film("hand", "DX", ExplicitVRLittleEndian),)),
    StudyPlan(6, "NORMAL", (_dx(JPEG2000Lossless), _SIDE), Kind.NORMAL, _FEMALE),
    StudyPlan(7, "TUBERCULOSIS", (_cr(JPEGLosslessSV1, inverse=True),), Kind.CAVITIES, _MALE),
    StudyPlan(8, "NORMAL", (_SC,), Kind.NORMAL, _MALE),
    StudyPlan(9, "VIRAL", (_child("DX", RLELossless),), Kind.INTERSTITIAL, _CHILD),
    StudyPlan(10, "DOCUMENT", (Film("page", "SC", ExplicitVRLittleEndian, rows=1754, columns=1240, bits=8),)),
    StudyPlan(11, "COVID", (_dx(inverse=True),), Kind.GROUND_GLASS, _FEMALE),
    StudyPlan(12, "NORMAL", (_cr(ImplicitVRLittleEndian, inverse=True),), Kind.NORMAL, _MALE, "STAT"),
    StudyPlan(13, "EFFUSION", (_dx(JPEGLSLossless), _SIDE), Kind.EFFUSION, _MALE),
    StudyPlan(14, "NORMAL", (_child("DX", HTJ2KLossless, bits=16),), Kind.NORMAL, _CHILD),
    StudyPlan(
        15, "PNEUMONIA", (_child("CR", JPEGLosslessSV1, inverse=True),), Kind.CONSOLIDATION, _CHILD, "STAT"
    ),
    StudyPlan(16, "KNEE", (Film("knee", "CR", JPEGLSLossless, rows=2140, columns=1760),)),
    StudyPlan(17, "TUBERCULOSIS", (_dx(RLELossless),), Kind.CAVITIES, _FEMALE),
    StudyPlan(18, "NORMAL", (_dx(JPEGLSLossless),), Kind.NORMAL, _FEMALE, "HIGH"),
    StudyPlan(19, "COVID", (_cr(JPEG2000Lossless), _cr(JPEG2000Lossless, take=1)), Kind.GROUND_GLASS, _MALE),
    StudyPlan(20, "LARGE HEART", (_TALL_SC,), Kind.LARGE_HEART, _FEMALE),
    StudyPlan(21, "LATERAL", (_SIDE,)),
    StudyPlan(22, "VIRAL", (_child("CR", ImplicitVRLittleEndian),), Kind.INTERSTITIAL, _CHILD),
    StudyPlan(23, "PHANTOM", (Film("pattern", "CR", ExplicitVRLittleEndian, rows=2140, columns=1760),)),
    StudyPlan(24, "NORMAL", (_child("DX", inverse=True), _child("DX", take=1)), Kind.NORMAL, _CHILD),
)
