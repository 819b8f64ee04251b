"""The service as configured: what speaks of the list to other systems listens, polls and stops with it."""

from __future__ import annotations

import socket

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityWorklistInformationFind, UnifiedProcedureStepPull

from tests.peers import wait_until
from tests.reading_room import arrive, uid_of
from triage.app import Role, Service, utc_now
from triage.domain.policy import Policy
from triage.settings import Settings
from triage.worklist import listing


def test_hl7_workitems_and_worklists_work_as_configured_and_end_with_the_service(tmp_path):
    entry = Dataset()
    entry.AccessionNumber, entry.RequestedProcedurePriority = "ACC00002", "STAT"
    ris = AE("RIS")
    ris.add_supported_context(ModalityWorklistInformationFind)
    answers = [(evt.EVT_C_FIND, lambda _event: iter([(0xFF00, entry)]))]
    peer = ris.start_server(("127.0.0.1", 0), block=False, evt_handlers=answers)
    settings = Settings.model_validate(
        {
            "site": {"data_dir": tmp_path},
            "web": {"port": 0},
            "orders": {
                "hl7_port": 0,
                "mwl_seconds": 5,
                "mwl": [{"ae_title": "RIS", "host": "127.0.0.1", "port": peer.socket.getsockname()[1]}],
            },
            "ups": {"port": 0, "clients": ["READER"]},
            "scheduler": {"rerank_seconds": 1},
        }
    )
    service = Service(settings, Policy(), roles=frozenset({Role.SCHEDULER, Role.WEB}), create=True)
    service.start()
    try:
        arrive(service.db, 1, utc_now())
        arrive(service.db, 2, utc_now())
        lines = dict(line.split()[:2] for line in service.addresses())
        host, port = lines["UPS"].split(":")
        reader = AE("READER")
        reader.add_requested_context(UnifiedProcedureStepPull)
        association = reader.associate(host, int(port))
        assert association.is_established
        association.release()
        stranger = AE("STRANGER")
        stranger.add_requested_context(UnifiedProcedureStepPull)
        assert stranger.associate(host, int(port)).is_rejected
        hl7 = lines["HL7"].split(":")
        socket.create_connection((hl7[0], int(hl7[1])), 5).close()

        def first() -> bool:
            with service.db.read() as session:
                return listing.page(session, utc_now())["items"][0]["study_instance_uid"] == uid_of(2)

        wait_until(first, 60, 0.2)
    finally:
        service.stop()
        peer.shutdown()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind((hl7[0], int(hl7[1])))
