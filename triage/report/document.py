"""The header that every result object shares: whose it is, where it belongs, who made it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

import orjson
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite
from pydicom.sr.coding import Code
from pydicom.uid import UID, ExplicitVRLittleEndian

from triage import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from triage.report import codes
from triage.report.build import MANUFACTURER, MODEL_NAME, ReportInput
from triage.report.evidence import TYPE_2
from triage.report.uids import CODING_SCHEME_UID, derive

SERIES_DESCRIPTION = "AI TRIAGE - RESEARCH USE ONLY"
#: Series numbers from a block of our own, so that our series sort last.
SERIES_NUMBERS = {"sr": 9701, "text_sr": 9702, "ko": 9704}
_COPIED = (
    "IssuerOfPatientID",
    "PatientAge",
    "StudyDescription",
    "PhysiciansOfRecord",
    "ProcedureCodeSequence",
)


def header(inp: ReportInput, kind: str, sop_class_uid: str, modality: str) -> Dataset:
    """Return a data set with everything but the content and the SOP Instance UID (PS3.3 A.35)."""
    ds = Dataset()
    _patient_and_study(ds, inp.evidence[0])
    ds.SOPClassUID = sop_class_uid
    ds.Modality = modality
    ds.SeriesInstanceUID = inp.series_uid(kind)
    ds.SeriesNumber = SERIES_NUMBERS[kind]
    ds.SeriesDescription = SERIES_DESCRIPTION
    ds.InstanceNumber = inp.version
    ds.ReferencedPerformedProcedureStepSequence = []
    _times(ds, inp)
    _equipment(ds, inp)
    ds.CurrentRequestedProcedureEvidenceSequence = _references(
        inp.study_uid, ((str(f.SeriesInstanceUID), f.SOPClassUID, f.SOPInstanceUID) for f in inp.evidence)
    )
    request = _request(inp)
    if request is not None:
        ds.ReferencedRequestSequence = [request]
    return ds


def _patient_and_study(ds: Dataset, film: Dataset) -> None:
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.StudyInstanceUID = film.StudyInstanceUID
    for keyword in (*TYPE_2, *_COPIED):
        if keyword in film:
            setattr(ds, keyword, film[keyword].value)


def _times(ds: Dataset, inp: ReportInput) -> None:
    # It would hold for the copied Study Date and Time too, so only the film can know it.
    if "TimezoneOffsetFromUTC" in inp.evidence[0]:
        ds.TimezoneOffsetFromUTC = inp.evidence[0].TimezoneOffsetFromUTC
    ds.ContentDate, ds.ContentTime = _date(inp.started_at), _time(inp.started_at)
    # No Series Date: one series holds all versions, and its attributes must not differ between them.
    ds.InstanceCreationDate, ds.InstanceCreationTime = _date(inp.finished_at), _time(inp.finished_at)


def _equipment(ds: Dataset, inp: ReportInput) -> None:
    software = [inp.site.software, *([inp.model] if inp.model else [])]
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MODEL_NAME
    ds.SoftwareVersions = software
    ds.DeviceSerialNumber = inp.site.serial_number
    ds.StationName = inp.site.ae_title
    institution = inp.evidence[0].get("InstitutionName") or inp.site.institution
    if institution:
        ds.InstitutionName = institution
    algorithm = Dataset()
    algorithm.PurposeOfReferenceCodeSequence = [as_item(codes.PROCESSING_EQUIPMENT)]
    algorithm.Manufacturer = MANUFACTURER
    algorithm.ManufacturerModelName = MODEL_NAME
    algorithm.SoftwareVersions = software
    algorithm.DeviceUID = inp.device_uid
    algorithm.ContributionDateTime = f"{_date(inp.finished_at)}{_time(inp.finished_at)}{inp.finished_at:%z}"
    algorithm.ContributionDescription = "Automated evaluation of chest radiographs, research use only"
    ds.ContributingEquipmentSequence = [algorithm]
    scheme = Dataset()
    scheme.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    scheme.CodingSchemeUID = CODING_SCHEME_UID
    scheme.CodingSchemeName = "Codes of the triage project"
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    ds.CodingSchemeIdentificationSequence = [scheme]


def document_flags(ds: Dataset, inp: ReportInput, kind: str) -> None:
    """Set what only structured reports have: complete, preliminary, and never verified by a machine."""
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.PerformedProcedureCodeSequence = []
    author = Dataset()
    author.ObserverType = "DEV"
    author.Manufacturer = MANUFACTURER
    author.ManufacturerModelName = MODEL_NAME
    author.StationName = inp.site.ae_title
    author.DeviceUID = inp.device_uid
    author.InstitutionName = inp.site.institution or None
    author.InstitutionCodeSequence = []
    ds.AuthorObserverSequence = [author]
    earlier = [
        (one.series_uid, one.sop_class_uid, one.sop_instance_uid)
        for one in inp.predecessors
        if one.kind == kind
    ]
    if earlier:
        ds.PredecessorDocumentsSequence = _references(inp.study_uid, earlier)


def _references(study_uid: str, instances: Iterable[tuple[str, str, str]]) -> list[Dataset]:
    """Return one study's item: study > series > SOP (PS3.3 C.17.2.1), each instance once."""
    by_series: dict[str, dict[str, str]] = {}
    for series_uid, sop_class_uid, sop_instance_uid in instances:
        by_series.setdefault(str(series_uid), {})[str(sop_instance_uid)] = str(sop_class_uid)
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = []
    for series_uid, members in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        series.ReferencedSOPSequence = []
        for sop_instance_uid, sop_class_uid in members.items():
            sop = Dataset()
            sop.ReferencedSOPClassUID = sop_class_uid
            sop.ReferencedSOPInstanceUID = sop_instance_uid
            series.ReferencedSOPSequence.append(sop)
        study.ReferencedSeriesSequence.append(series)
    return [study]


def _request(inp: ReportInput) -> Dataset | None:
    """Return the request that the films name, or None when they name none."""
    film = inp.evidence[0]
    asked = film.RequestAttributesSequence[0] if "RequestAttributesSequence" in film else Dataset()
    accession = film.AccessionNumber or asked.get("AccessionNumber", "")
    if not accession and not asked.get("RequestedProcedureID"):
        return None
    item = Dataset()
    item.StudyInstanceUID = inp.study_uid
    item.ReferencedStudySequence = []
    item.AccessionNumber = accession
    item.RequestedProcedureID = asked.get("RequestedProcedureID", "")
    item.RequestedProcedureDescription = asked.get("RequestedProcedureDescription", "")
    item.RequestedProcedureCodeSequence = []
    item.PlacerOrderNumberImagingServiceRequest = ""
    item.FillerOrderNumberImagingServiceRequest = ""
    return item


def as_item(code: Code) -> Dataset:
    """Return a code as an item of a code sequence."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def seal(ds: Dataset, inp: ReportInput, kind: str) -> Dataset:
    """Give the finished object its UID, derived from all that it was built of: other content, other UID."""
    uid = derive(inp.site.namespace, "instance", inp.series_uid(kind), str(inp.version), _fingerprint(inp))
    ds.SOPInstanceUID = uid
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    ds.file_meta = meta
    return ds


def _fingerprint(inp: ReportInput) -> str:
    """Return a digest of everything in an input; the builders are pure, so it stands for their result."""
    facts = (
        inp.site,
        inp.films,
        inp.conclusion,
        inp.model,
        inp.model_digest,
        inp.version,
        inp.started_at,
        inp.finished_at,
        inp.predecessors,
    )
    digest = hashlib.sha256(orjson.dumps(facts))
    for film in inp.evidence:
        buffer = DicomBytesIO()
        dcmwrite(buffer, film, implicit_vr=False, little_endian=True, enforce_file_format=False)
        digest.update(buffer.getvalue())
    return digest.hexdigest()


def file_bytes(ds: Dataset) -> bytes:
    """Return a sealed object as a DICOM file."""
    buffer = DicomBytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def _date(moment: datetime) -> str:
    return moment.strftime("%Y%m%d")


def _time(moment: datetime) -> str:
    return moment.strftime("%H%M%S.%f")
