"""Orders by modality worklist: a C-FIND SCU that is polled, for sites whose RIS tells its priorities there.

The worklist is a source of priorities only (PS3.4 K): the list of what to read is published as UPS.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from triage.domain.priority import urgency_of_word
from triage.errors import PeerUnreachable
from triage.store.database import Database
from triage.worklist import orders
from triage.worklist.orders import BadOrder, OrderRequest, Source

log = logging.getLogger(__name__)

#: Entries of one answer beyond this are left for the next poll; a worklist of a day is far shorter.
MOST = 5000
_TIMEOUT = 20.0  # seconds


@dataclass(frozen=True)
class WorklistPeer:
    """A worklist SCP, and as whom we ask it."""

    ae_title: str
    host: str
    port: int
    calling: str
    modalities: tuple[str, ...] = ("CR", "DX")


def poll(db: Database, peer: WorklistPeer, clock: Callable[[], datetime]) -> int:
    """Ask for the procedures of yesterday to tomorrow and keep them as orders; returns how many are new.

    An entry that the worklist no longer lists stays: worklists drop what was performed.

    Raises:
        PeerUnreachable: the worklist could not be asked; nothing is changed.
    """
    now = clock()
    requests = [request for modality in peer.modalities for request in _ask(peer, modality, now)]
    with db.write() as session:
        return orders.apply_all(session, requests, now, f"mwl {peer.ae_title}")


def _ask(peer: WorklistPeer, modality: str, now: datetime) -> list[OrderRequest]:
    ae = AE(peer.calling)
    ae.add_requested_context(ModalityWorklistInformationFind)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = _TIMEOUT
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    if not association.is_established:
        msg = f"The worklist {peer.ae_title} at {peer.host}:{peer.port} can't be reached."
        raise PeerUnreachable(msg)
    try:
        return list(_answers(association, peer, _query(modality, now)))
    finally:
        association.release()


def _answers(association: Any, peer: WorklistPeer, query: Dataset) -> Iterator[OrderRequest]:
    found = 0
    for status, item in association.send_c_find(query, ModalityWorklistInformationFind):
        code = getattr(status, "Status", None)
        if code in (0xFF00, 0xFF01) and item is not None and found < MOST:
            found += 1
            try:
                yield _request(item)
            except (BadOrder, ValueError, AttributeError) as error:
                log.info(
                    "a worklist entry is unusable",
                    extra={"event": "mwl_entry", "error": type(error).__name__},
                )
        elif code is None or code not in (0x0000, 0xFF00, 0xFF01):
            msg = f"The worklist {peer.ae_title} broke off its answer (status {code})."
            raise PeerUnreachable(msg)


def _query(modality: str, now: datetime) -> Dataset:
    day = timedelta(days=1)
    step = Dataset()
    step.Modality = modality
    step.ScheduledProcedureStepStartDate = f"{now - day:%Y%m%d}-{now + day:%Y%m%d}"
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    query.ScheduledProcedureStepSequence = Sequence([step])
    for name in (
        "AccessionNumber",
        "StudyInstanceUID",
        "PatientID",
        "IssuerOfPatientID",
        "PatientName",
        "PatientBirthDate",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
        "RequestedProcedurePriority",
    ):
        setattr(query, name, "")
    return query


def _request(item: Dataset) -> OrderRequest:
    def text(name: str, most: int) -> str:
        return str(item.get(name) or "").strip()[:most]

    word = text("RequestedProcedurePriority", 16)
    return OrderRequest(
        source=Source.MWL,
        accession_number=text("AccessionNumber", 65),
        study_uid=text("StudyInstanceUID", 65),
        placer_number=text("RequestedProcedureID", 65),
        patient_id=text("PatientID", 256),
        patient_id_issuer=text("IssuerOfPatientID", 256),
        patient_birth_date=text("PatientBirthDate", 16),
        patient_name=text("PatientName", 400),
        description=text("RequestedProcedureDescription", 400),
        urgency=urgency_of_word(word) if word else None,
    )
