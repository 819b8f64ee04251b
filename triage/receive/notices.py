"""What others say about a study's completeness: performed procedure steps and availability notices."""

from __future__ import annotations

import logging
import threading
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.events import Event

from triage.domain.study import CompletedBy
from triage.receive.completion import Completion
from triage.receive.contexts import IAN, MPPS
from triage.receive.parse import is_uid

log = logging.getLogger(__name__)

_SUCCESS, _PROCESSING_FAILURE, _NO_SUCH_INSTANCE = 0x0000, 0x0110, 0x0112
_MAX_STEPS = 10_000
#: A step that was discontinued has sent what it will send.
_ENDED = frozenset({"COMPLETED", "DISCONTINUED"})


def studies_of_step(step: Dataset) -> list[str]:
    """Return the Study Instance UIDs of a performed procedure step (PS3.4 F.7.2.1.1)."""
    found = [
        str(item.get("StudyInstanceUID", "")) for item in step.get("ScheduledStepAttributesSequence") or ()
    ]
    return [uid for uid in found if is_uid(uid)]


def images_of_step(step: Dataset) -> set[str]:
    """Return the SOP Instance UIDs that a performed procedure step lists, images and other objects."""
    found = set()
    for series in step.get("PerformedSeriesSequence") or ():
        for name in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"):
            found |= {str(item.get("ReferencedSOPInstanceUID", "")) for item in series.get(name) or ()}
    return {uid for uid in found if is_uid(uid)}


def available_objects(notice: Dataset) -> tuple[str, set[str]]:
    """Return study and SOP Instance UIDs of an Instance Availability Notification (PS3.4 R.3.2)."""
    found = {
        str(item.get("ReferencedSOPInstanceUID", ""))
        for series in notice.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedSOPSequence") or ()
    }
    return str(notice.get("StudyInstanceUID", "")), {uid for uid in found if is_uid(uid)}


class Notices:
    """Serves MPPS and IAN and passes on what they say; a step that we did not see begin is unknown here."""

    def __init__(self, completion: Completion | None) -> None:
        """Know of no step yet."""
        self._completion = completion
        self._lock = threading.Lock()
        #: SOP Instance UID of each step in progress: the studies that it belongs to.
        self._steps: dict[str, list[str]] = {}

    def created(self, event: Event) -> tuple[int, Dataset | None]:
        """Answer an N-CREATE: a step begins, or objects are available."""
        request: Any = event.request
        try:
            content = event.attribute_list
            if request.AffectedSOPClassUID == MPPS:
                self._begin(str(request.AffectedSOPInstanceUID or ""), content)
            elif request.AffectedSOPClassUID == IAN:
                study_uid, listed = available_objects(content)
                if self._completion is not None and is_uid(study_uid):
                    self._completion.expect(study_uid, listed, CompletedBy.IAN)
        except Exception as error:  # noqa: BLE001 - the top of a request: a damaged notice is its sender's
            return self._damaged(error)
        return _SUCCESS, Dataset()

    def _begin(self, step_uid: str, content: Dataset) -> None:
        with self._lock:
            if len(self._steps) >= _MAX_STEPS:
                self._steps.pop(next(iter(self._steps)))
            self._steps[step_uid] = studies_of_step(content)

    def changed(self, event: Event) -> tuple[int, Dataset | None]:
        """Answer an N-SET: a step goes on, or has ended."""
        request: Any = event.request
        step_uid = str(request.RequestedSOPInstanceUID or "")
        try:
            content = event.modification_list
            with self._lock:
                known = self._steps.get(step_uid)
            if known is None:
                return _NO_SUCH_INSTANCE, None
            if str(content.get("PerformedProcedureStepStatus", "")).strip() in _ENDED:
                self._end(step_uid, known, images_of_step(content))
        except Exception as error:  # noqa: BLE001 - the top of a request
            return self._damaged(error)
        return _SUCCESS, Dataset()

    def _end(self, step_uid: str, studies: list[str], listed: set[str]) -> None:
        with self._lock:
            self._steps.pop(step_uid, None)
        # A step of several studies does not say which object is whose: those wait for other evidence.
        if self._completion is not None and len(set(studies)) == 1:
            self._completion.expect(studies[0], listed, CompletedBy.MPPS)

    @staticmethod
    def _damaged(error: Exception) -> tuple[int, Dataset | None]:
        log.warning("a notice can't be read", extra={"event": "bad_notice", "error": type(error).__name__})
        return _PROCESSING_FAILURE, None
