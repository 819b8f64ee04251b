"""Bringing studies in from a PACS: C-FIND, then C-GET over our own association, or C-MOVE to a listener."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from triage.errors import PeerUnreachable
from triage.receive.contexts import MAX_REQUESTED, TRANSFER_SYNTAXES, requested_storage
from triage.receive.intake import Intake, Sender
from triage.receive.parse import Claim, is_uid

log = logging.getLogger(__name__)

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
_GET = "1.2.840.10008.5.1.4.1.2.2.3"
_PENDING = (0xFF00, 0xFF01)


@dataclass(frozen=True)
class Pacs:
    """The archive that is asked, and the AE title by which we call."""

    ae_title: str
    host: str
    port: int
    calling: str = "TRIAGE"
    timeout: float = 120.0

    @property
    def name(self) -> str:
        """The form that the command line takes."""
        return f"{self.ae_title}@{self.host}:{self.port}"


@dataclass(frozen=True)
class FoundStudy:
    """A study that the archive has; `objects` is None when the archive does not count."""

    study_uid: str
    objects: int | None


@dataclass(frozen=True)
class Brought:
    """How the transfer of one study ended."""

    completed: int
    failed: int
    status: int

    @property
    def done(self) -> bool:
        """Whether every object of it arrived."""
        return self.status == 0x0000 and not self.failed


@contextmanager
def _associate(pacs: Pacs, ae: AE, **options: Any) -> Iterator[Association]:
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = pacs.timeout
    ae.connection_timeout = 10
    assoc = ae.associate(pacs.host, pacs.port, ae_title=pacs.ae_title, **options)
    if not assoc.is_established:
        msg = f"{pacs.name} accepts no association; check its address and that it knows '{pacs.calling}'."
        raise PeerUnreachable(msg)
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def _identifier(study_uid: str) -> Dataset:
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "STUDY"
    wanted.StudyInstanceUID = study_uid
    return wanted


def find_studies(pacs: Pacs, keys: Mapping[str, str]) -> list[FoundStudy]:
    """Return the studies that match; `keys` are DICOM keywords, e.g. StudyDate=20260101- (PS3.4 C.6.2).

    Raises:
        PeerUnreachable: no association, or the archive refuses the query.
    """
    ae = AE(pacs.calling)
    ae.add_requested_context(_FIND)
    wanted = _identifier("")
    wanted.NumberOfStudyRelatedInstances = ""
    for keyword, value in keys.items():
        setattr(wanted, keyword, value)
    found: dict[str, FoundStudy] = {}
    with _associate(pacs, ae) as assoc:
        for status, answer in assoc.send_c_find(wanted, UID(_FIND)):
            code = status.get("Status", 0xC000)
            if code not in (0x0000, *_PENDING):
                msg = f"{pacs.name} refuses the query with status 0x{code:04X}."
                raise PeerUnreachable(msg)
            uid = str(answer.get("StudyInstanceUID", "")) if answer is not None else ""
            if is_uid(uid):
                count = str(answer.get("NumberOfStudyRelatedInstances", "") if answer else "")
                found[uid] = FoundStudy(uid, int(count) if count.isdigit() else None)
    return list(found.values())


def get_study(pacs: Pacs, study_uid: str, intake: Intake, each: Callable[[], None]) -> Brought:
    """Fetch a study over an association of ours; every object goes through the intake before it is answered.

    Raises:
        PeerUnreachable: no association.
    """
    ae = AE(pacs.calling)
    ae.add_requested_context(_GET)
    roles = []
    for sop_class in requested_storage(MAX_REQUESTED - 1):
        ae.add_requested_context(sop_class, list(TRANSFER_SYNTAXES))
        roles.append(build_role(sop_class, scp_role=True))
    sender = Sender(pacs.ae_title, pacs.host, "import")

    def store(event: Event) -> int:
        request: Any = event.request
        claim = Claim(
            str(request.AffectedSOPClassUID or ""),
            str(request.AffectedSOPInstanceUID or ""),
            str(event.context.transfer_syntax),
        )
        file = intake.open(claim, sender)
        data: BytesIO | None = request.DataSet
        if data is not None:
            file.write(data.getbuffer())
        verdict = intake.accept(file, sender)
        each()
        return int(verdict.status)

    handlers: list[Any] = [(evt.EVT_C_STORE, store)]
    with _associate(pacs, ae, ext_neg=roles, evt_handlers=handlers) as assoc:
        return _outcome(assoc.send_c_get(_identifier(study_uid), UID(_GET)))


def move_study(pacs: Pacs, study_uid: str, destination: str, each: Callable[[], None]) -> Brought:
    """Have the archive send a study to the listener whose AE title it knows as `destination`.

    Raises:
        PeerUnreachable: no association.
    """
    ae = AE(pacs.calling)
    ae.add_requested_context(_MOVE)
    with _associate(pacs, ae) as assoc:
        outcome = _outcome(assoc.send_c_move(_identifier(study_uid), destination, UID(_MOVE)))
    for _ in range(outcome.completed):
        each()
    return outcome


def _outcome(answers: Iterator[tuple[Dataset, Dataset | None]]) -> Brought:
    completed = failed = 0
    code = 0xC000
    for status, _ in answers:
        code = int(status.get("Status", 0xC000))
        completed = int(status.get("NumberOfCompletedSuboperations", completed) or completed)
        failed = int(status.get("NumberOfFailedSuboperations", failed) or failed)
    return Brought(completed, failed, code)
