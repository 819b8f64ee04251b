"""A companion that marks the film that decided, for viewers that show key images: KO with TID 2010."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from triage.domain.finding import Outcome
from triage.report import wording
from triage.report.build import ReportInput
from triage.report.codes import dcm
from triage.report.document import header, seal
from triage.report.sr import observer
from triage.report.tree import CONTAINS, container, image, text

KIND = "ko"
SOP_CLASS_UID = str(KeyObjectSelectionDocumentStorage)


def build_ko(inp: ReportInput) -> Dataset | None:
    """Return a selection of the film that flagged the study, or None for a study that is not flagged.

    It points at a film, never at a place in it.
    """
    said = inp.conclusion
    if said.outcome is not Outcome.POSITIVE or said.film is None:
        return None
    films = [film for film in inp.evidence if film.SOPInstanceUID == said.film.sop_instance_uid]
    if not films:
        return None
    # The evidence of a key object selection is what it selects, nothing more (PS3.3 C.17.6.2.1).
    inp = replace(inp, evidence=films)
    ds = header(inp, KIND, SOP_CLASS_UID, "KO")
    ds.update(container(dcm("113000", "Of Interest"), _items(inp), template="2010", relationship=None))
    return seal(ds, inp, KIND)


def _items(inp: ReportInput) -> Iterator[Dataset]:
    yield from observer(inp)
    yield text(CONTAINS, dcm("113012", "Key Object Description"), wording.conclusion(inp.conclusion))
    for film in inp.evidence:
        yield image(CONTAINS, None, film)
