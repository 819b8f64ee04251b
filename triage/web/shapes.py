"""The shapes of the API's documents, for /openapi.json and its examples; answers are built without them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from triage.domain.policy import MAX_MINUTES
from triage.domain.priority import Urgency
from triage.worklist.actions import MAX_TEXT

UID_PATTERN = r"^[0-9.]{1,64}$"
Time = Annotated[str, Field(examples=["2026-03-01T12:00:00Z"], json_schema_extra={"format": "date-time"})]
FindingName = Literal["bacterial_pneumonia", "viral_pneumonia", "covid19", "tuberculosis", "other"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="allow")


class Patient(_Document):
    """Whose study it is, as the objects say it (DICOM person name, date as YYYYMMDD)."""

    id: str = Field(examples=["SYN-0001"])
    name: str = Field(examples=["SYNTHETIC^ONE"])
    birth_date: str = Field(examples=["19610403"])
    sex: str = Field(examples=["F"])


class FindingShape(_Document):
    """One finding with its calibrated probability and what the thresholds make of it."""

    finding: FindingName
    probability: float = Field(ge=0, le=1, examples=[0.91])
    state: Literal["present", "undetermined", "absent"]


class Assessment(_Document):
    """What the model says of the study; `outcome` is null while nothing was said."""

    state: Literal["receiving", "complete", "assessing", "assessed", "not_evaluated", "failed"]
    outcome: Literal["positive", "undetermined", "negative", "not_evaluated"] | None
    any_disease: float | None = None
    model: str | None = Field(default=None, examples=["chest/3"])
    findings: list[FindingShape] = []


class Item(_Document):
    """One row of the list."""

    position: int | None = Field(examples=[1])
    study_instance_uid: str = Field(examples=["1.2.826.0.1.3680043.8.498.1"])
    accession_number: str = Field(examples=["A1"])
    patient: Patient
    status: Literal["waiting", "claimed", "read", "withdrawn"]
    claimed_by: str | None
    arrived_at: Time
    due_at: Time
    waited_seconds: int
    band: int
    effective_at: Time
    advance_minutes: float = Field(examples=[240.0])
    urgency: Literal["stat", "urgent", "routine"]
    assessment: Assessment
    reasons: list[str] = Field(examples=[["tuberculosis 0.91: 240 min ahead"]])
    revision: int = Field(description="The ETag of this row.")


class WorklistPage(_Document):
    """A page of the list; send `next_cursor` back as `cursor` for the next one."""

    generated_at: Time
    policy: str = Field(examples=["default@3f2a41c08d11"])
    items: list[Item]
    next_cursor: str | None


class TermShape(_Document):
    """One line of an explanation; the used ones add up to the advance."""

    name: str
    sentence: str
    minutes: float
    used: bool


class Why(_Document):
    """Why an entry stands where it stands."""

    study_instance_uid: str
    position: int | None
    band: int
    effective_at: Time
    advance_minutes: float
    terms: list[TermShape]
    policy: str


class Study(_Document):
    """Everything that is known of a study."""

    study_instance_uid: str
    instances: list[dict[str, Any]]
    results: list[dict[str, Any]]
    events: list[dict[str, Any]]


class ProblemDocument(_Document):
    """An error (RFC 9457)."""

    type: str = Field(examples=["urn:triage:problem:unknown-study"])
    title: str
    status: int
    detail: str


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Shift(_Body):
    """How far to move a study, and why."""

    minutes: float = Field(
        gt=0,
        le=MAX_MINUTES,
        examples=[60],
        description="Minutes ahead (pin) or back (lower); no more than the policy's max_advance.",
    )
    reason: str = Field(min_length=1, max_length=MAX_TEXT, examples=["clinically worse, ward called"])


class NoteText(_Body):
    """A free text for the other readers; empty removes it."""

    text: str = Field(max_length=MAX_TEXT, examples=["compare with last year's film"])


class FeedbackText(_Body):
    """Agreement or disagreement with one finding."""

    finding: FindingName | Literal["normal"]
    agrees: bool
    comment: str = Field(default="", max_length=MAX_TEXT)


class OrderText(_Body):
    """An order; it needs an accession number, a placer or filler number, or a Study Instance UID."""

    accession_number: str = Field(default="", max_length=64, examples=["A1"])
    study_uid: str = Field(default="", max_length=64)
    placer_number: str = Field(default="", max_length=100)
    filler_number: str = Field(default="", max_length=100)
    patient_id: str = Field(default="", max_length=256)
    patient_id_issuer: str = Field(default="", max_length=256)
    patient_birth_date: str = Field(default="", max_length=16, examples=["19610403"])
    patient_name: str = Field(default="", max_length=400, examples=["SYNTHETIC^ONE"])
    description: str = Field(default="", max_length=400)
    urgency: Urgency | None = Field(default=None, description="Absent: what was said before still holds.")
    cancelled: bool = False


#: What every guarded route may answer.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
    for status, text in (
        (401, "Nobody is logged in."),
        (403, "The role is too small, or the request came from another site."),
        (422, "A value can't be used."),
    )
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {**PROBLEMS[401], "description": "No such study."}}
CHANGED: dict[int | str, dict[str, Any]] = {
    400: {**PROBLEMS[401], "description": "The body can't be read, or a value is out of its bounds."},
    409: {**PROBLEMS[401], "description": "Somebody else was first, or the state has no such step."},
    412: {**PROBLEMS[401], "description": "If-Match names an older revision."},
    413: {**PROBLEMS[401], "description": "The body is larger than a megabyte."},
    428: {**PROBLEMS[401], "description": "If-Match is absent."},
}
