"""The workitems on a DICOM network: UPS Pull C-FIND, N-GET and N-ACTION (PS3.4 CC.2), and C-ECHO."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    UnifiedProcedureStepPull,
    UnifiedProcedureStepQuery,
    Verification,
)
from sqlalchemy.exc import SQLAlchemyError

from triage.errors import ConfigurationError, TriageError
from triage.store.database import Database
from triage.worklist import ups

log = logging.getLogger(__name__)

_CHANGE_STATE, _REQUEST_CANCEL = 1, 2
_PENDING, _CANCELLED, _SUCCESS, _FAILURE = 0xFF00, 0xFE00, 0x0000, 0x0110
_NO_SUCH_ACTION, _DECLINED = 0x0123, 0xC313


class UpsService:
    """An SCP for reading clients, on an address of its own beside the listener of films."""

    def __init__(
        self,
        db: Database,
        clock: Callable[[], datetime],
        *,
        ae_title: str,
        host: str,
        port: int,
        clients: frozenset[str] = frozenset(),
    ) -> None:
        """`clients` are the AE titles that are let in; empty means any that reaches the address."""
        self._db = db
        self._clock = clock
        self._wanted = (host, port)
        self._ae = AE(ae_title)
        self._ae.maximum_associations = 20
        for sop_class in (Verification, UnifiedProcedureStepPull, UnifiedProcedureStepQuery):
            self._ae.add_supported_context(sop_class)
        self._ae.require_calling_aet = sorted(clients)
        self._server: Any = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, after `start`; port 0 took a free one."""
        host, port, *_ = self._server.socket.getsockname()
        return str(host), int(port)

    def start(self) -> None:
        """Listen and answer.

        Raises:
            ConfigurationError: the address can't be used.
        """
        handlers: list[Any] = [
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_GET, self._get),
            (evt.EVT_N_ACTION, self._act),
        ]
        try:
            self._server = self._ae.start_server(self._wanted, block=False, evt_handlers=handlers)
        except OSError as error:
            host, port = self._wanted
            msg = f"UPS can't be served on {host}:{port}: {error.strerror}; change the port."
            raise ConfigurationError(msg) from None

    def stop(self) -> None:
        """Close every association."""
        if self._server is not None:
            self._server.shutdown()

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        try:
            with self._db.read() as session:
                for item in ups.search(session, event.identifier):
                    if event.is_cancelled:
                        yield _CANCELLED, None
                        return
                    yield _PENDING, item
        except (SQLAlchemyError, TriageError, ValueError) as error:
            log.warning("a UPS query failed", extra={"event": "ups_failed", "error": type(error).__name__})
            yield 0xC000, None

    def _get(self, event: Any) -> tuple[int, Dataset | None]:
        try:
            with self._db.read() as session:
                item = ups.retrieve(session, str(event.request.RequestedSOPInstanceUID))
        except ups.UpsError as error:
            return error.status, None
        tags = event.attribute_identifiers
        if not tags:
            return _SUCCESS, item
        answer = Dataset()
        for tag in tags:
            if tag in item:
                answer.add(item[tag])
        return _SUCCESS, answer

    def _act(self, event: Any) -> tuple[int, Dataset | None]:
        if event.action_type == _REQUEST_CANCEL:
            # A study that is on the list is read; whoever wants it gone cancels its order.
            return _DECLINED, None
        if event.action_type != _CHANGE_STATE:
            return _NO_SUCH_ACTION, None
        actor = f"ae:{str(event.assoc.requestor.ae_title).strip()}"
        try:
            change = event.action_information
            with self._db.write() as session:
                uid = str(event.request.RequestedSOPInstanceUID)
                ups.change_state(session, uid, change, actor, self._clock())
        except ups.UpsError as error:
            return error.status, None
        except (SQLAlchemyError, TriageError) as error:
            log.warning(
                "a workitem can't be changed", extra={"event": "ups_failed", "error": type(error).__name__}
            )
            return _FAILURE, None
        return _SUCCESS, None
