"""Every table. States are texts of the domain's enums; times are whole microseconds UTC.

A row of `entry` carries its own sort key, so that the list is right whoever else is dead.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from triage.domain.entry import EntryState
from triage.domain.finding import NotEvaluated, Outcome
from triage.domain.priority import Urgency
from triage.domain.result import ResultState
from triage.domain.study import CompletedBy, StudyState
from triage.store.base import Base, Id
from triage.store.types import EnumText, random_uid

_UNJUDGED = text("state IN ('not_evaluated', 'failed')")


class Installation(Base):
    """Facts of this installation, by name: UID namespace, secret key, start of the history, leases."""

    __tablename__ = "installation"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Study(Base):
    """One study: whose it is, and how far the pipeline is with its present version."""

    __tablename__ = "study"
    __table_args__ = (
        # What a person must look at, because no model did.
        Index("ix_study_unjudged", "id", sqlite_where=_UNJUDGED, postgresql_where=_UNJUDGED),
        Index("ix_study_patient_id", "patient_id"),
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    study_uid: Mapped[str] = mapped_column(String(64), unique=True)
    patient_id: Mapped[str] = mapped_column(String(256), default="")
    patient_id_issuer: Mapped[str] = mapped_column(String(256), default="")
    patient_name: Mapped[str] = mapped_column(Text, default="")
    patient_birth_date: Mapped[str] = mapped_column(String(16), default="")
    patient_sex: Mapped[str] = mapped_column(String(16), default="")
    #: Whose it was before its record was corrected or merged: `patient_id`, `issuer`, `birth_date`, `name`.
    earlier_patients: Mapped[list[Any]] = mapped_column(JSON, default=list, server_default="[]")
    accession_number: Mapped[str] = mapped_column(String(64), default="", index=True)
    study_date: Mapped[str] = mapped_column(String(16), default="")
    study_time: Mapped[str] = mapped_column(String(32), default="")
    description: Mapped[str] = mapped_column(Text, default="")
    institution_name: Mapped[str] = mapped_column(Text, default="")
    #: The word of the objects themselves; orders from elsewhere win over it.
    object_urgency: Mapped[Urgency] = mapped_column(EnumText(Urgency), default=Urgency.ROUTINE)
    state: Mapped[StudyState] = mapped_column(EnumText(StudyState), default=StudyState.RECEIVING)
    #: Why it is not evaluated, failed or not in the list, in one sentence.
    state_sentence: Mapped[str] = mapped_column(Text, default="")
    version: Mapped[int] = mapped_column(default=1)
    completed_by: Mapped[CompletedBy | None] = mapped_column(EnumText(CompletedBy), default=None)
    sender: Mapped[str] = mapped_column(String(64), default="")
    arrived_at: Mapped[datetime] = mapped_column(index=True)
    last_instance_at: Mapped[datetime]
    completed_at: Mapped[datetime | None] = mapped_column(default=None)


class StudyEvent(Base):
    """One step of a study through the pipeline; append-only."""

    __tablename__ = "study_event"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    at: Mapped[datetime]
    step: Mapped[str] = mapped_column(String(40))
    before: Mapped[str] = mapped_column(String(40))
    after: Mapped[str] = mapped_column(String(40))
    version: Mapped[int]
    cause: Mapped[str] = mapped_column(Text, default="")


class Instance(Base):
    """One object as it was sent; two rows with one UID are two different byte strings (a conflict)."""

    __tablename__ = "instance"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "digest"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    #: None for a quarantined object, which belongs to no study.
    study_id: Mapped[int | None] = mapped_column(ForeignKey("study.id"), index=True, default=None)
    study_version: Mapped[int] = mapped_column(default=1)
    study_uid: Mapped[str] = mapped_column(String(64), default="")
    series_uid: Mapped[str] = mapped_column(String(64), default="")
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    transfer_syntax_uid: Mapped[str] = mapped_column(String(64))
    modality: Mapped[str] = mapped_column(String(16), default="")
    #: SHA-256 of the data set's bytes as sent.
    digest: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    #: Path below the spool folder; empty once the retention policy has removed the file.
    path: Mapped[str] = mapped_column(Text)
    sender: Mapped[str] = mapped_column(String(64), default="")
    received_at: Mapped[datetime]
    #: Set for an object that the model never sees; None for a film to assess.
    unjudged: Mapped[NotEvaluated | None] = mapped_column(EnumText(NotEvaluated), default=None)
    #: True for the copy that counts, where one UID came with different bytes.
    current: Mapped[bool] = mapped_column(default=True)
    conflict: Mapped[bool] = mapped_column(default=False)
    #: Why the object is kept apart from every study; empty for the others.
    quarantine: Mapped[str] = mapped_column(Text, default="")
    purged_at: Mapped[datetime | None] = mapped_column(default=None)


class Refusal(Base):
    """An association or object that was refused: what a PACS administrator wants to see. No patient data."""

    __tablename__ = "refusal"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    sender: Mapped[str] = mapped_column(String(64))
    host: Mapped[str] = mapped_column(String(64))
    #: `association`, `c-store`, `stow`, `import`.
    channel: Mapped[str] = mapped_column(String(20))
    #: The DIMSE status, reject reason or HTTP status, as the peer got it.
    status: Mapped[str] = mapped_column(String(20))
    sentence: Mapped[str] = mapped_column(Text)


class FilmAssessmentRow(Base):
    """The model's answer for one film; a film is assessed once by each model."""

    __tablename__ = "assessment"
    __table_args__ = (UniqueConstraint("instance_id", "model_digest"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"))
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    study_version: Mapped[int]
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[Outcome] = mapped_column(EnumText(Outcome))
    reason: Mapped[NotEvaluated | None] = mapped_column(EnumText(NotEvaluated), default=None)
    sentence: Mapped[str] = mapped_column(Text)
    frontal: Mapped[float | None] = mapped_column(default=None)
    any_disease: Mapped[float | None] = mapped_column(default=None)
    any_disease_low: Mapped[float] = mapped_column(default=0.0)
    any_disease_high: Mapped[float] = mapped_column(default=1.0)
    #: [{"finding", "probability", "state", "low", "high"}]
    findings: Mapped[list[Any]] = mapped_column(JSON, default=list)
    model: Mapped[str] = mapped_column(String(64), default="")
    model_digest: Mapped[str] = mapped_column(String(64), default="")
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]


class Entry(Base):
    """One row of the reading list, with the key by which it is sorted."""

    __tablename__ = "entry"
    __table_args__ = (
        # The reading order. The state is a literal here and in the query, and a column too: for a column
        # that the index lacks SQLite would look at each row itself, ten thousand times to count a place.
        Index(
            "ix_entry_waiting",
            "band",
            "effective_at",
            "arrived_at",
            "study_uid",
            "state",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
        # No index begins with the state: SQLite would take it for the list and sort by hand.
        Index(
            "ix_entry_due",
            "due_at",
            sqlite_where=text("state = 'waiting'"),
            postgresql_where=text("state = 'waiting'"),
        ),
        *(
            Index(
                f"ix_entry_{state}",
                "study_id",
                sqlite_where=text(f"state = '{state}'"),
                postgresql_where=text(f"state = '{state}'"),
            )
            for state in ("claimed", "read", "withdrawn")
        ),
        Index("ix_entry_read_at", "read_at"),
    )
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), primary_key=True, autoincrement=False)
    study_uid: Mapped[str] = mapped_column(String(64), unique=True)
    state: Mapped[EntryState] = mapped_column(EnumText(EntryState), default=EntryState.WAITING)
    band: Mapped[int]
    effective_at: Mapped[datetime]
    arrived_at: Mapped[datetime]
    due_at: Mapped[datetime]
    urgency: Mapped[Urgency] = mapped_column(EnumText(Urgency), default=Urgency.ROUTINE)
    advance_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    #: {"due", "grounds": [[name, said, share]], "news": [said]}; empty until ranked by this version.
    standing: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    #: What the deciding film said, as the list shows it; empty while nothing was said.
    answer: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    #: [{"minutes", "reason", "by", "at"}]
    pins: Mapped[list[Any]] = mapped_column(JSON, default=list)
    aged_out: Mapped[bool] = mapped_column(default=False)
    due_warned: Mapped[bool] = mapped_column(default=False)
    due_breached: Mapped[bool] = mapped_column(default=False)
    policy: Mapped[str] = mapped_column(String(80), default="")
    claimed_by: Mapped[str | None] = mapped_column(String(80), default=None)
    claimed_at: Mapped[datetime | None] = mapped_column(default=None)
    #: Last sign of life of the reader who holds the claim.
    claim_seen_at: Mapped[datetime | None] = mapped_column(default=None)
    read_by: Mapped[str | None] = mapped_column(String(80), default=None)
    read_at: Mapped[datetime | None] = mapped_column(default=None)
    note: Mapped[str] = mapped_column(Text, default="")
    #: SOP Instance UID of the workitem as which UPS clients see the entry (PS3.4 CC).
    workitem_uid: Mapped[str] = mapped_column(String(64), index=True, default=random_uid, server_default="")
    #: Transaction UID of the UPS client that claimed it: its key to the lock; empty for other readers.
    transaction_uid: Mapped[str] = mapped_column(String(64), default="", server_default="")
    #: Goes up with every change: the ETag.
    revision: Mapped[int] = mapped_column(default=1)


class EntryEvent(Base):
    """One change of an entry, with the key and state after it; append-only, the source of history."""

    __tablename__ = "entry_event"
    __table_args__ = (Index("ix_entry_event_study_at", "study_id", "at"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"))
    at: Mapped[datetime] = mapped_column(index=True)
    #: An `EntryVerb`, or the `EntryStep` that was taken.
    verb: Mapped[str] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(String(80), default="")
    cause: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[EntryState] = mapped_column(EnumText(EntryState))
    band: Mapped[int]
    effective_at: Mapped[datetime]
    arrived_at: Mapped[datetime]
    due_at: Mapped[datetime]
    claimed_by: Mapped[str | None] = mapped_column(String(80), default=None)
    model: Mapped[str] = mapped_column(String(64), default="")
    policy: Mapped[str] = mapped_column(String(80), default="")


class Order(Base):
    """What HIS or RIS said about a study; it may come before or after the images."""

    __tablename__ = "imaging_order"
    __table_args__ = (Index("ix_imaging_order_accession", "accession_number"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    #: Identity at the source: accession number, else placer or filler order number, else study UID.
    order_key: Mapped[str] = mapped_column(String(200), unique=True)
    accession_number: Mapped[str] = mapped_column(String(64), default="")
    study_uid: Mapped[str] = mapped_column(String(64), default="", index=True)
    patient_id: Mapped[str] = mapped_column(String(256), default="")
    patient_id_issuer: Mapped[str] = mapped_column(String(256), default="", server_default="")
    patient_birth_date: Mapped[str] = mapped_column(String(16), default="", server_default="")
    patient_name: Mapped[str] = mapped_column(Text, default="")
    description: Mapped[str] = mapped_column(Text, default="")
    #: None where no message of the order stated one.
    urgency: Mapped[Urgency | None] = mapped_column(EnumText(Urgency), default=None)
    cancelled: Mapped[bool] = mapped_column(default=False)
    #: `rest`, `hl7`, `mwl`.
    source: Mapped[str] = mapped_column(String(20))
    #: When it came first, or last said something new and stated its urgency with it.
    received_at: Mapped[datetime]


class Message(Base):
    """The last HL7 message with a control ID: the very same again gets the same answer and does nothing."""

    __tablename__ = "message"
    __table_args__ = (UniqueConstraint("sender", "control_id"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    sender: Mapped[str] = mapped_column(String(200))
    control_id: Mapped[str] = mapped_column(String(200))
    #: SHA-256 of the whole message; empty for one of a version that did not keep it.
    digest: Mapped[str] = mapped_column(String(64), server_default="")
    at: Mapped[datetime] = mapped_column(index=True)
    #: AA or AE; a message that was refused as a whole (AR) is not kept.
    answer: Mapped[str] = mapped_column(String(2))


class Result(Base):
    """One result object on its way to one destination."""

    __tablename__ = "result"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "destination"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    study_version: Mapped[int]
    kind: Mapped[str] = mapped_column(String(20))
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64))
    #: Path below the results folder.
    path: Mapped[str] = mapped_column(Text)
    #: Name of the destination; empty when none is configured and the object is only kept.
    destination: Mapped[str] = mapped_column(String(80), default="")
    state: Mapped[ResultState] = mapped_column(EnumText(ResultState), default=ResultState.BUILT)
    #: Every try, also those that found the destination away.
    attempts: Mapped[int] = mapped_column(default=0)
    #: How often the destination would not have this object.
    refusals: Mapped[int] = mapped_column(default=0, server_default="0")
    last_error: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class Job(Base):
    """Work that a committed state asks for; taken with a lease, so a dead worker's job comes back."""

    __tablename__ = "job"
    __table_args__ = (Index("ix_job_ready", "stage", "run_at"), Index("ix_job_key", "stage", "job_key"))
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    stage: Mapped[str] = mapped_column(String(20))
    #: Two waiting jobs of a stage with one key are one job.
    job_key: Mapped[str] = mapped_column(String(120))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    run_at: Mapped[datetime]
    leased_until: Mapped[datetime | None] = mapped_column(default=None)
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime]


class PolicyRow(Base):
    """Every policy that was ever switched on; the newest activation is the one in force."""

    __tablename__ = "policy"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    version: Mapped[str] = mapped_column(String(80))
    digest: Mapped[str] = mapped_column(String(64), index=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    activated_at: Mapped[datetime]
    activated_by: Mapped[str] = mapped_column(String(80))


class Account(Base):
    """A person who may log in."""

    __tablename__ = "account"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    password_hash: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(20))
    disabled: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class Credential(Base):
    """A secret that stands for an account: API token, browser session or one-time login; hash only."""

    __tablename__ = "credential"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    #: `token`, `session`, `login`.
    kind: Mapped[str] = mapped_column(String(10))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(80))
    role: Mapped[str] = mapped_column(String(20))
    csrf: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(default=None)
    revoked_at: Mapped[datetime | None] = mapped_column(default=None)


class Audit(Base):
    """Who touched which patient's data, in the words of PS3.15 A.5; append-only."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    #: Code value of CID 400, e.g. 110103 DICOM Instances Accessed.
    event_code: Mapped[str] = mapped_column(String(16))
    #: C, R, U, D or E.
    action: Mapped[str] = mapped_column(String(1))
    #: 0 success, 4 minor, 8 serious, 12 major failure.
    outcome: Mapped[int] = mapped_column(default=0)
    actor: Mapped[str] = mapped_column(String(80))
    host: Mapped[str] = mapped_column(String(64), default="")
    study_uid: Mapped[str] = mapped_column(String(64), default="")
    detail: Mapped[str] = mapped_column(Text, default="")


class Feedback(Base):
    """A reader's word on one finding of one study, kept with the model that was judged."""

    __tablename__ = "feedback"
    id: Mapped[int] = mapped_column(Id, primary_key=True, autoincrement=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    at: Mapped[datetime]
    by: Mapped[str] = mapped_column(String(80))
    #: A finding, or `normal`.
    finding: Mapped[str] = mapped_column(String(40))
    agrees: Mapped[bool]
    model: Mapped[str] = mapped_column(String(64))
    model_digest: Mapped[str] = mapped_column(String(64))
    probability: Mapped[float | None] = mapped_column(default=None)
    comment: Mapped[str] = mapped_column(Text, default="")
