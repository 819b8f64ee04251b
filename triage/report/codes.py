"""Every code that a report uses, with the context group that asks for it (PS3.16)."""

from __future__ import annotations

from pydicom.sr.coding import Code

from triage.domain.finding import Finding, FindingState, NotEvaluated

#: Designator of the project's own coding scheme, for what no standard scheme names.
PRIVATE_SCHEME = "99TRIAGE"


def dcm(value: str, meaning: str) -> Code:
    """Return a code of PS3.16 Annex D."""
    return Code(value, "DCM", meaning)


def sct(value: str, meaning: str) -> Code:
    """Return a SNOMED CT code."""
    return Code(value, "SCT", meaning)


NO_UNITS = Code("1", "UCUM", "no units")
MILLIMETER = Code("mm", "UCUM", "mm")
PIXELS = Code("{pixels}", "UCUM", "pixels")

ENGLISH = Code("en", "RFC5646", "English")
DEVICE = dcm("121007", "Device")
ARTIFICIAL_INTELLIGENCE = dcm("123110", "Artificial Intelligence")
PROCESSING_EQUIPMENT = dcm("109102", "Processing Equipment")
CHEST = sct("816094009", "Chest")
#: As films code it in Anatomic Region Sequence: today's code, the older ones of SNOMED CT and SNOMED RT.
CHEST_REGIONS = frozenset({"816094009", "51185008", "T-D3000"})
LUNG = sct("39607008", "Lung")
#: CID 100, when the film does not say which procedure it was.
XRAY = Code("43468-8", "LN", "XR unspecified body region")

#: What the tree calls things.
SOURCE_OF_MEASUREMENT = dcm("121112", "Source of Measurement")
FINDING = dcm("121071", "Finding")
CERTAINTY = dcm("111012", "Certainty of Finding")
PRESENCE = dcm("121052", "Presence of property")
SCORE = Code("score", PRIVATE_SCHEME, "Triage priority score")
PRIORITY = sct("260870009", "Priority")
HIGH_PRIORITY = sct("394849002", "High priority")
NORMAL_PRIORITY = sct("394848005", "Normal priority")
SUMMARY = dcm("111017", "CAD Processing and Findings Summary")
REASON = Code("notevalreason", PRIVATE_SCHEME, "Reason not evaluated")
CONCLUSION = dcm("121077", "Conclusion")

#: What a film's appearance resembles; the model judges a picture, not an organism.
FINDINGS: dict[Finding, Code] = {
    Finding.BACTERIAL_PNEUMONIA: sct("53084003", "Bacterial pneumonia"),
    Finding.VIRAL_PNEUMONIA: sct("75570004", "Viral pneumonia"),
    Finding.COVID19: sct("840539006", "COVID-19"),
    Finding.TUBERCULOSIS: sct("154283005", "Pulmonary tuberculosis"),
    Finding.OTHER: sct("168734001", "Standard chest X-ray abnormal"),
}
#: What is seen in the lungs; an abnormal film may be so anywhere.
LUNG_FINDINGS = frozenset(Finding) - {Finding.OTHER}

#: CID 240.
STATES: dict[FindingState, Code] = {
    FindingState.PRESENT: sct("52101004", "Present"),
    FindingState.ABSENT: sct("272519000", "Absent"),
    FindingState.UNDETERMINED: sct("373068000", "Undetermined"),
}

#: CID 6047, by (every algorithm succeeded, there are findings).
SUMMARIES: dict[tuple[bool, bool], Code] = {
    (True, False): dcm("111241", "All algorithms succeeded; without findings"),
    (True, True): dcm("111242", "All algorithms succeeded; with findings"),
    (False, False): dcm("111243", "Not all algorithms succeeded; without findings"),
    (False, True): dcm("111244", "Not all algorithms succeeded; with findings"),
}
NONE_SUCCEEDED = dcm("111245", "No algorithms succeeded; without findings")

#: CID 4010, by View Position; PA and AP are easily swapped.
VIEWS: dict[str, Code] = {
    "PA": sct("272479007", "postero-anterior"),
    "AP": sct("399348003", "antero-posterior"),
    "LL": sct("399173006", "left lateral"),
    "RL": sct("399198007", "right lateral"),
    "LATERAL": sct("399067008", "lateral"),
}

#: CID 29, as far as films have it; anything else is called Other.
MODALITIES: dict[str, Code] = {
    "DX": dcm("DX", "Digital Radiography"),
    "CR": dcm("CR", "Computed Radiography"),
    "RF": dcm("RF", "Radiofluoroscopy"),
    "RG": dcm("RG", "Radiographic imaging"),
    "XA": dcm("XA", "X-Ray Angiography"),
    "CT": dcm("CT", "Computed Tomography"),
    "MG": dcm("MG", "Mammography"),
    "PX": dcm("PX", "Panoramic X-Ray"),
    "IO": dcm("IO", "Intra-oral Radiography"),
}
OTHER_MODALITY = dcm("OT", "Other")

#: The nearest standard code, written beside our own where one fits.
STANDARD_REASONS: dict[NotEvaluated, Code] = {
    NotEvaluated.NO_PIXELS: dcm("111213", "No image"),
    NotEvaluated.NOT_FRONTAL: dcm("111209", "Positioning"),
    NotEvaluated.LATERAL_ONLY: dcm("111209", "Positioning"),
    NotEvaluated.UNDECODABLE: dcm("111235", "Unusable - Quality renders image unusable"),
    NotEvaluated.BAD_GEOMETRY: dcm("111235", "Unusable - Quality renders image unusable"),
    NotEvaluated.CLIPPED_EXPOSURE: dcm("110531", "Insufficient quality for interpretation"),
    NotEvaluated.TOO_SMALL: dcm("110531", "Insufficient quality for interpretation"),
    NotEvaluated.LOSSY_TOO_FAR: dcm("110531", "Insufficient quality for interpretation"),
    NotEvaluated.FOR_PROCESSING: dcm("111219", "Inappropriate image processing"),
    NotEvaluated.MODEL_FAILURE: dcm("111218", "Software failure"),
    NotEvaluated.TIMEOUT: dcm("111218", "Software failure"),
}


def reason_code(reason: NotEvaluated) -> Code:
    """Return our own code for a reason: its value is the text of the enum, stable for ever."""
    return Code(reason.value, PRIVATE_SCHEME, reason.value.replace("-", " ").capitalize())


def key(code: Code) -> tuple[str, str]:
    """Return what identifies a code whatever its meaning says."""
    return (code.value, code.scheme_designator)
