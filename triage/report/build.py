"""What a result object is built from: everything by value, so that building is a pure function."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom.dataset import Dataset

from triage.domain.assessment import FilmAssessment, StudyConclusion
from triage.report.uids import derive

MANUFACTURER = "triage project"
MODEL_NAME = "triage"


@dataclass(frozen=True)
class Site:
    """Who reports: `namespace` is the installation's own, `ae_title` what the PACS knows us by."""

    namespace: uuid.UUID
    ae_title: str
    software: str
    institution: str = ""

    @property
    def serial_number(self) -> str:
        """The installation as a short text."""
        return str(self.namespace)[:8]


@dataclass(frozen=True)
class Predecessor:
    """An earlier object of the same study that this one replaces."""

    kind: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class ReportInput:
    """One version of one study, ready to be written down.

    `evidence` holds the normalised headers of the films that were looked at (at least one, all of one
    study), `films` the answers for them. `started_at` and `finished_at` are aware times of the analysis;
    their zone is the one in which the object's dates and times are written. Nothing depends on when
    the object is built, so building it again gives the same bytes.
    """

    site: Site
    evidence: Sequence[Dataset]
    films: Sequence[FilmAssessment]
    conclusion: StudyConclusion
    #: "name/version" and digest of the model that looked; empty when none did.
    model: str
    model_digest: str
    version: int
    started_at: datetime
    finished_at: datetime
    predecessors: Sequence[Predecessor] = ()

    @property
    def study_uid(self) -> str:
        """The study that the objects belong to."""
        return str(self.evidence[0].StudyInstanceUID)

    @property
    def device_uid(self) -> str:
        """Names this installation with this model: it changes whenever the model changes."""
        return derive(self.site.namespace, "device", MODEL_NAME, self.model_digest)

    def series_uid(self, kind: str) -> str:
        """Return the series of all versions of one kind of object."""
        return derive(self.site.namespace, "series", self.study_uid, self.device_uid, kind)

    def tracking_uid(self, name: str) -> str:
        """Return what follows one finding of a study through all versions."""
        return derive(self.site.namespace, "tracking", self.study_uid, name)
