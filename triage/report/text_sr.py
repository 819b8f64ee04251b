"""A companion for a PACS that shows plain text reports only: Basic Text SR with TID 2000."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import BasicTextSRStorage

from triage.report import wording
from triage.report.build import ReportInput
from triage.report.codes import CONCLUSION, FINDING, dcm
from triage.report.document import document_flags, header, seal
from triage.report.sr import observation_context
from triage.report.tree import CONTAINS, container, text

KIND = "text_sr"
SOP_CLASS_UID = str(BasicTextSRStorage)


def build_text_sr(inp: ReportInput) -> Dataset:
    """Return the report as sentences, for every outcome; no numbers but those in the sentences."""
    ds = header(inp, KIND, SOP_CLASS_UID, "SR")
    document_flags(ds, inp, KIND)
    title = Code("18748-4", "LN", "Diagnostic imaging study")
    ds.update(container(title, _sections(inp), template="2000", relationship=None))
    return seal(ds, inp, KIND)


def _sections(inp: ReportInput) -> Iterator[Dataset]:
    yield from observation_context(inp)
    findings = [text(CONTAINS, FINDING, line) for line in wording.finding_lines(inp.conclusion)]
    if findings:
        yield container(dcm("121070", "Findings"), findings)
    conclusion = text(CONTAINS, CONCLUSION, wording.conclusion(inp.conclusion))
    yield container(dcm("121076", "Conclusions"), [conclusion])
