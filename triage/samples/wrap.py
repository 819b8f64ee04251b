"""Sample pictures as valid DX, CR and SC objects whose every name says SYNTHETIC."""

from __future__ import annotations

import datetime as dt
import io
import uuid

import numpy as np
from pydicom import config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

import triage
from triage.samples.canvas import Map
from triage.samples.encode import Samples, write_pixels
from triage.samples.plan import EDITION, Film, StudyPlan

_NAMESPACE = uuid.UUID("5b0d2d5e-6c0a-5f43-9a5e-2f7d7f4b9c11")
_CLASSES = {
    "DX": UID("1.2.840.10008.5.1.4.1.1.1.1"),
    "CR": UID("1.2.840.10008.5.1.4.1.1.1"),
    "SC": UID("1.2.840.10008.5.1.4.1.1.7"),
}
_NOTICE = "SYNTHETIC: drawn by a program, shows no person. Not for diagnosis."
_FIRST_ARRIVAL = dt.datetime(2026, 1, 5, 8, 0, tzinfo=dt.UTC)
_CHEST = Code("816094009", "SCT", "Chest")
_REGIONS = {
    "frontal": ("CHEST", _CHEST),
    "lateral": ("CHEST", _CHEST),
    "hand": ("HAND", Code("85562004", "SCT", "Hand")),
    "knee": ("KNEE", Code("72696002", "SCT", "Knee")),
    "pattern": ("", None),
    "page": ("", None),
}
#: Where the rows and the columns run (PS3.3 C.7.6.1.1.1): a hand with its fingers up runs towards the head.
_ORIENTATION = {"frontal": ["L", "F"], "lateral": ["P", "F"], "hand": ["R", "H"]}
_VIEWS = {
    "PA": Code("272479007", "SCT", "postero-anterior"),
    "AP": Code("399348003", "SCT", "antero-posterior"),
    "LL": Code("399173006", "SCT", "left lateral"),
}


def uid(*parts: object) -> UID:
    """Return the same UID for the same parts, under 2.25 (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, (EDITION, *parts)))).int}")


def wrap(picture: Map, plan: StudyPlan, number: int, seed: int) -> bytes:
    """Return film `number` (from 0) of `plan` as a DICOM file; `picture` is [rows, columns], 0 black to 1."""
    film = plan.films[number]
    dataset = FileDataset("", {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    _identify(dataset, plan, number, seed)
    _patient(dataset, plan, seed)
    _study(dataset, plan, seed)
    _image(dataset, film)
    if film.form == "DX":
        _dx(dataset, film, plan)
    elif film.form == "CR":
        _cr(dataset, film, plan)
    else:
        dataset.ConversionType = "SYN"
    write_pixels(dataset, _samples(picture, film), film.syntax)
    stream = io.BytesIO()
    with config.disable_value_validation():
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _samples(picture: Map, film: Film) -> Samples:
    top = (1 << film.bits) - 1
    shown = 1 - picture if film.inverse else picture
    level = np.round(np.clip(shown, 0, 1) * top)
    return level.astype(np.uint8) if film.bits == 8 else level.astype(np.uint16)


def _identify(dataset: FileDataset, plan: StudyPlan, number: int, seed: int) -> None:
    film = plan.films[number]
    dataset.SOPClassUID = _CLASSES[film.form]
    dataset.SOPInstanceUID = uid(seed, plan.number, number, "instance")
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.ImplementationClassUID = uid("implementation")
    dataset.file_meta.ImplementationVersionName = "TRIAGE_SAMPLES"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StudyInstanceUID = uid(seed, plan.number, "study")
    dataset.SeriesInstanceUID = uid(seed, plan.number, number, "series")
    dataset.SeriesNumber = number + 1
    dataset.InstanceNumber = 1


def _patient(dataset: FileDataset, plan: StudyPlan, seed: int) -> None:
    dataset.PatientName = f"SYNTHETIC^{plan.label}^{plan.number:02d}"
    dataset.PatientID = f"SYN-{seed:04d}-{plan.number:04d}"
    dataset.PatientSex = {"adult-male": "M", "adult-female": "F"}.get(plan.build, "O")
    age = 3 if plan.build == "child" else 30 + plan.number
    dataset.PatientBirthDate = f"{_FIRST_ARRIVAL.year - age}0101"
    dataset.PatientAge = f"{age:03d}Y"
    dataset.PatientComments = _NOTICE


def _study(dataset: FileDataset, plan: StudyPlan, seed: int) -> None:
    taken = _FIRST_ARRIVAL + dt.timedelta(minutes=4 * plan.number)
    for kind in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{kind}Date", taken.strftime("%Y%m%d"))
        setattr(dataset, f"{kind}Time", taken.strftime("%H%M%S"))
    dataset.AccessionNumber = f"SYN{seed:04d}{plan.number:04d}"
    dataset.StudyID = f"S{plan.number:04d}"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = f"SYNTHETIC {plan.label}"
    dataset.Manufacturer = "triage"
    dataset.ManufacturerModelName = "SYNTHETIC drawn sample"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = triage.__version__
    dataset.InstitutionName = "SYNTHETIC"
    if plan.priority:
        request = Dataset()
        request.RequestedProcedureID = f"RP{plan.number:04d}"
        request.ScheduledProcedureStepID = f"SPS{plan.number:04d}"
        request.RequestedProcedurePriority = plan.priority
        dataset.RequestAttributesSequence = [request]


def _image(dataset: FileDataset, film: Film) -> None:
    dataset.ImageType = ["DERIVED", "SECONDARY"] if film.form == "SC" else ["ORIGINAL", "PRIMARY", ""]
    dataset.Modality = (
        "OT" if film.form == "SC" and film.scene == "page" else {"SC": "CR"}.get(film.form, film.form)
    )
    dataset.SeriesDescription = f"SYNTHETIC {film.scene}"
    dataset.ImageComments = _NOTICE
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PatientOrientation = _ORIENTATION.get(film.scene, "")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if film.inverse else "MONOCHROME2"
    dataset.Rows, dataset.Columns = film.rows, film.columns
    dataset.BitsAllocated = 8 if film.bits == 8 else 16
    dataset.BitsStored, dataset.HighBit = film.bits, film.bits - 1
    dataset.PixelRepresentation = 0
    if film.form != "SC":
        dataset.WindowCenter, dataset.WindowWidth = 1 << (film.bits - 1), 1 << film.bits
        dataset.WindowCenterWidthExplanation = "WHOLE RANGE"
    body_part, _ = _REGIONS[film.scene]
    if body_part or film.form == "CR":
        dataset.BodyPartExamined = body_part
    if not body_part or (body_part != "CHEST" and film.form != "DX"):
        # Type 2C: empty where it is not known whether the part is one of a pair (PS3.3 C.7.3.1).
        dataset.Laterality = "R" if film.scene == "knee" else ""


def view_of(film: Film, plan: StudyPlan) -> str:
    """Return the View Position (0018,5101): children are taken from in front, adults from behind."""
    if film.scene == "lateral":
        return "LL"
    if film.scene != "frontal":
        return "AP" if film.scene == "knee" else "PA"
    return "AP" if plan.build == "child" else "PA"


def _cr(dataset: FileDataset, film: Film, plan: StudyPlan) -> None:
    dataset.ViewPosition = view_of(film, plan)
    dataset.KVP = "70" if plan.build == "child" else "120"
    dataset.PlateID = "SYNTHETIC"
    dataset.ImagerPixelSpacing = [0.2, 0.2]


def _dx(dataset: FileDataset, film: Film, plan: StudyPlan) -> None:
    view = view_of(film, plan)
    _, region = _REGIONS[film.scene]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.AnatomicRegionSequence = [_item(region)] if region else []
    dataset.ImageLaterality = "L" if film.scene == "hand" else "U"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = -1 if film.inverse else 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PresentationLUTShape = "INVERSE" if film.inverse else "IDENTITY"
    dataset.DetectorType = "SCINTILLATOR"
    dataset.DetectorID = "SYNTHETIC"
    dataset.ImagerPixelSpacing = [0.172, 0.172]
    dataset.KVP = "70" if plan.build == "child" else "120"
    dataset.ViewPosition = view
    dataset.PositionerType = ""
    code = _item(_VIEWS[view])
    code.ViewModifierCodeSequence = []
    dataset.ViewCodeSequence = [code]
    dataset.AcquisitionContextSequence = []


def _item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
        code.value,
        code.scheme_designator,
        code.meaning,
    )
    return item
