"""STOW-RS without a web framework (PS3.18 10.5): a stream of parts in, one answer out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from triage.receive.intake import Intake, Sender
from triage.receive.part10 import FileIntake
from triage.receive.verdict import Status, Verdict

MEDIA_JSON, MEDIA_XML = "application/dicom+json", "application/dicom+xml"
_FAILED, _REFERENCED = "00081198", "00081199"
_CLASS, _INSTANCE, _REASON, _RETRIEVE = "00081150", "00081155", "00081197", "00081190"
_KEYWORDS = {
    _CLASS: ("ReferencedSOPClassUID", "UI"),
    _INSTANCE: ("ReferencedSOPInstanceUID", "UI"),
    _REASON: ("FailureReason", "US"),
    _RETRIEVE: ("RetrieveURL", "UR"),
    _FAILED: ("FailedSOPSequence", "SQ"),
    _REFERENCED: ("ReferencedSOPSequence", "SQ"),
}
_NATIVE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"


@dataclass
class StowAnswer:
    """The Store Instances Response (PS3.18 10.5.3): HTTP status and the response module."""

    stored: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str, Verdict]] = field(default_factory=list)
    #: Set when the request itself was wrong, so that no part could be told from another.
    wrong: str = ""

    @property
    def status(self) -> int:
        """200 all kept, 202 some, 409 none, 503 none for want of room, 400 a broken request."""
        if self.wrong and not self.stored:
            return 400
        if not self.failed and not self.wrong:
            return 200
        if self.stored:
            return 202
        return 503 if all(v.status is Status.LATER for _, _, v in self.failed) else 409

    @property
    def sentences(self) -> list[str]:
        """Why something was refused."""
        said = [verdict.sentence for _, _, verdict in self.failed]
        return [*said, self.wrong] if self.wrong else said

    def document(self) -> dict[str, Any]:
        """Return the response module in the DICOM JSON model (PS3.18 F.2)."""
        answer: dict[str, Any] = {_RETRIEVE: {"vr": "UR"}}
        if self.failed:
            answer[_FAILED] = {
                "vr": "SQ",
                "Value": [
                    {**_reference(sop_class, instance), _REASON: {"vr": "US", "Value": [int(verdict.status)]}}
                    for sop_class, instance, verdict in self.failed
                ],
            }
        if self.stored:
            items = [{**_reference(*each), _RETRIEVE: {"vr": "UR"}} for each in self.stored]
            answer[_REFERENCED] = {"vr": "SQ", "Value": items}
        return answer

    def xml(self) -> bytes:
        """Return the same in the Native DICOM Model (PS3.19 A.1)."""
        root = ET.Element("NativeDicomModel", {"xmlns": _NATIVE})
        _to_xml(root, self.document())
        return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def _reference(sop_class: str, instance: str) -> dict[str, Any]:
    return {_CLASS: {"vr": "UI", "Value": [sop_class]}, _INSTANCE: {"vr": "UI", "Value": [instance]}}


def _to_xml(parent: ET.Element, document: dict[str, Any]) -> None:
    for tag, content in sorted(document.items()):
        keyword, vr = _KEYWORDS[tag]
        attribute = ET.SubElement(parent, "DicomAttribute", {"tag": tag, "vr": vr, "keyword": keyword})
        for number, value in enumerate(content.get("Value", ()), start=1):
            kind = "Item" if vr == "SQ" else "Value"
            child = ET.SubElement(attribute, kind, {"number": str(number)})
            if vr == "SQ":
                _to_xml(child, value)
            else:
                child.text = str(value)


class StowRequest:
    """One request: `feed` its body, then `finish`; each part is on disk before the next one begins."""

    def __init__(self, intake: Intake, content_type: str, account: str, host: str) -> None:
        """Read the boundary of `multipart/related; type="application/dicom"; boundary=...` (RFC 2387).

        Raises:
            ValueError: the content type is another one (HTTP 415).
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        inner = options.get(b"type", b"application/dicom").lower()
        if kind.lower() != b"multipart/related" or not boundary or inner != b"application/dicom":
            msg = 'The content type must be multipart/related; type="application/dicom" with a boundary.'
            raise ValueError(msg)
        self._intake = intake
        self._sender = Sender(account, host, "stow")
        self._answer = StowAnswer()
        self._part: FileIntake | None = None
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._complete,
            },
        )

    def _begin(self) -> None:
        self._part = FileIntake(self._intake, self._sender)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._part.feed(data[start:end])

    def _end(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        verdict = part.finish()
        names = (part.claim.sop_class_uid, part.claim.sop_instance_uid) if part.claim else ("", "")
        if verdict.stored:
            self._answer.stored.append(names)
        else:
            self._answer.failed.append((*names, verdict))

    def _complete(self) -> None:
        self._ended = True

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body; blocks while a part is made durable."""
        if self._answer.wrong:
            return
        try:
            self._parser.write(chunk)
        except FormParserError:
            self._wrong("The body is not the multipart message that its content type says.")

    def _wrong(self, sentence: str) -> None:
        self._answer.wrong = sentence
        if self._part is not None:
            self._part.discard()
            self._part = None
        self._intake.refusals.note(self._sender, "stow", "400", sentence)

    def abort(self) -> None:
        """End a request whose body will not come to its end; the parts that were whole stay kept."""
        self._wrong("The connection ended before the body did; only the parts that were whole are kept.")

    def finish(self) -> StowAnswer:
        """Return the answer; a body that ended early keeps what was whole."""
        if not self._ended and not self._answer.wrong:
            self._wrong("The body ended before its last boundary.")
        return self._answer
