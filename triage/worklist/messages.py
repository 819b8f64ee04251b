"""HL7 v2 orders and patient changes: one message in, one acknowledgement out, each message once.

Understood: ORM^O01, OMI^O23, OMG^O19 (orders), ADT^A08 and A31 (patient changed), ADT^A40 (patients merged).
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import hl7
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from triage.domain.priority import Urgency
from triage.errors import TriageError
from triage.store.database import Database
from triage.store.tables import Message
from triage.worklist import orders
from triage.worklist.orders import OrderRequest, Person, Source

log = logging.getLogger(__name__)

#: A segment longer than this carries a document, not an order.
MAX_SEGMENT = 64 * 1024

#: A sender repeats what was not answered within minutes or, after an outage, days.
_REMEMBERED = timedelta(days=30)
#: Messages that one transaction forgets, so that no writer waits.
_AT_ONCE = 1000

_ORDERS = {("ORM", "O01"), ("OMI", "O23"), ("OMG", "O19")}
_CHANGES = {("ADT", "A08"), ("ADT", "A31")}
_MERGES = {("ADT", "A40")}
_NEW = {"NW", "XO", "SC", "RP", "XX"}
_CANCELLED = {"CA", "OC", "DC", "OD", "CR", "DR"}
_URGENT = {"A", "P", "C", "T"}
#: Escape sequences that stand for a delimiter, by its place among the message's separators.
_DELIMITERS = {"F": 1, "R": 2, "S": 3, "T": 4}
_CHARSETS = {
    "": "utf-8",
    "ASCII": "utf-8",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "ISO IR6": "utf-8",
    "ISO IR87": "iso2022_jp",
    "ISO IR100": "iso8859-1",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
}


class Rejected(TriageError):
    """A message that is not read at all (AR)."""

    code = "hl7-rejected"


class Erroneous(TriageError):
    """A message of a kind we read, with content that can't be used (AE)."""

    code = "hl7-error"


@dataclass(frozen=True)
class Reply:
    """What goes back to the sender; `code` is AA, AE or AR."""

    code: str
    text: str


@dataclass(frozen=True)
class _Part:
    """One segment with its message, whose delimiters unescape its texts."""

    message: hl7.Message
    segment: hl7.Segment

    @property
    def name(self) -> str:
        return str(self.segment[0])

    def of(self, field: int, component: int = 1, sub: int = 1) -> str:
        """Return a component of a field's first repetition, unescaped; empty where it is missing."""
        try:
            part: Any = self.segment[field]
        except IndexError:
            return ""
        for index in (1, component, sub):
            if not isinstance(part, hl7.Container):
                if index != 1:
                    return ""
                continue
            if len(part) < index:
                return ""
            part = part[index - 1]
        text = _unescaped(self.message, str(part)).strip()
        # `""` means "delete" in HL7: here it is as unknown as an empty field.
        return "" if text == '""' else text


def _unescaped(message: hl7.Message, text: str) -> str:
    """Return a text with its escape sequences (HL7 v2 2.7) resolved; what can't be read is left out.

    The library's own function quotes whole fields, so patients' names, in the log, and writes a command to
    skip lines out as often as the sender says.
    """
    mark = re.escape(message.esc)
    return re.sub(f"{mark}([^{mark}]*){mark}", lambda found: _meant(message, found[1]), text)


def _meant(message: hl7.Message, code: str) -> str:
    if code == "E":
        return str(message.esc)
    if code in _DELIMITERS:
        return str(message.separators[_DELIMITERS[code]])
    if code.startswith("."):
        return " "  # a line break, an indent and the like
    try:
        return bytes.fromhex(code[1:]).decode("latin-1") if code.startswith("X") else ""
    except ValueError:
        return ""


def _parts(message: hl7.Message) -> list[_Part]:
    return [_Part(message, segment) for segment in message]


def _first(message: hl7.Message, name: str) -> _Part | None:
    return next((part for part in _parts(message) if part.name == name), None)


def answer(db: Database, raw: bytes, clock: Callable[[], datetime]) -> Reply:
    """Return the acknowledgement of one message; AA only after its effect is committed.

    The same message again (control ID and every byte) gets the same code and changes nothing; a control ID
    alone says nothing, since senders count from the beginning again. AE says that the content must be
    corrected, AR that the message is of no kind that is read here.
    """
    try:
        message = _parse(raw)
    except Rejected as error:
        return Reply("AR", refusal(str(error)))
    control = _text(message, "MSH", 10)[:200]
    try:
        kind = _kind(message, control)
    except Rejected as error:
        return Reply("AR", _acknowledge(message, "AR", str(error)))
    sender = f"{_text(message, 'MSH', 3)}|{_text(message, 'MSH', 4)}"[:200]
    digest = hashlib.sha256(raw).hexdigest()
    code, sentence = "AA", ""
    with db.write() as session:
        query = select(Message).where(Message.sender == sender, Message.control_id == control)
        known = session.scalars(query).first()
        if known is not None and known.digest == digest:
            said = {"event": "hl7_repeated", "type": "^".join(kind), "answer": known.answer}
            log.info("an HL7 message came again and changed nothing", extra=said)
            return Reply(known.answer, _acknowledge(message, known.answer, "answered before"))
        try:
            with session.begin_nested():
                _apply(session, message, kind, clock(), f"hl7 {sender}"[:80])
        except (Erroneous, orders.BadOrder) as error:
            code, sentence = "AE", str(error)
        row = known or Message(sender=sender, control_id=control)
        row.digest, row.at, row.answer = digest, clock(), code
        session.add(row)
    log.info("an HL7 message was answered", extra={"event": "hl7", "type": "^".join(kind), "answer": code})
    return Reply(code, _acknowledge(message, code, sentence))


def forget(db: Database, clock: Callable[[], datetime]) -> int:
    """Forget messages that no sender repeats any more; return how many that were."""
    removed = 0
    while True:
        with db.write() as session:
            old = select(Message.id).where(Message.at < clock() - _REMEMBERED).limit(_AT_ONCE)
            numbers = session.scalars(old).all()
            session.execute(delete(Message).where(Message.id.in_(numbers)))
        removed += len(numbers)
        if len(numbers) < _AT_ONCE:
            return removed


def _parse(raw: bytes) -> hl7.Message:
    if not raw.startswith(b"MSH") or len(raw) < 9:
        msg = "The message does not begin with MSH."
        raise Rejected(msg)
    separators = raw[3:4] + raw[4:].split(raw[3:4], 1)[0]
    marks = separators.decode("latin-1")
    if (
        not 5 <= len(marks) <= 6
        or len(set(marks)) != len(marks)
        or any(m.isalnum() or m <= " " for m in marks)
    ):
        msg = "MSH-1 and MSH-2 are no delimiters; they are |^~\\& as a rule."
        raise Rejected(msg)
    lines = raw.replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"\r")
    if any(len(line) > MAX_SEGMENT for line in lines):
        msg = f"A segment is longer than {MAX_SEGMENT >> 10} KB; orders carry no documents."
        raise Rejected(msg)
    lines[0] = _filled(lines[0], separators)
    fields = lines[0].split(raw[3:4])
    charset = (
        fields[17].split(separators[2:3])[0].decode("ascii", "replace").strip() if len(fields) > 17 else ""
    )
    try:
        text = b"\r".join(line for line in lines if line).decode(_CHARSETS[charset.upper()])
        return hl7.parse(text + "\r")
    except KeyError:
        msg = "The character set in MSH-18 is not known here; send UNICODE UTF-8."
        raise Rejected(msg) from None
    except UnicodeDecodeError:
        msg = "The text is not in the character set that MSH-18 says."
        raise Rejected(msg) from None
    except (hl7.HL7Exception, IndexError, ValueError):
        msg = "The message can't be parsed as HL7 v2."
        raise Rejected(msg) from None


def _filled(header: bytes, separators: bytes) -> bytes:
    """Return MSH with all that an acknowledgement repeats (MSH-9.2, MSH-12): what was left out is empty."""
    field, component, repetition = separators[:1], separators[1:2], separators[2:3]
    fields = header.split(field)
    fields += [b""] * (12 - len(fields))
    kind, *others = fields[8].split(repetition)
    fields[8] = repetition.join([kind + component, *others])
    return field.join(fields)


def _kind(message: hl7.Message, control: str) -> tuple[str, str]:
    if not control:
        msg = "MSH-10 is empty: without a control ID a repetition could not be told from a new message."
        raise Rejected(msg)
    kind = (_text(message, "MSH", 9, 1), _text(message, "MSH", 9, 2))
    if kind not in _ORDERS | _CHANGES | _MERGES:
        msg = "Messages of this type are not read here; send ORM^O01, OMI^O23, OMG^O19 or ADT^A08, A31, A40."
        raise Rejected(msg)
    return kind


def _apply(session: Session, message: hl7.Message, kind: tuple[str, str], now: datetime, actor: str) -> None:
    if kind in _ORDERS:
        requests = list(_requests(message))
        if not requests:
            msg = "The message has no ORC segment, so it orders nothing."
            raise Erroneous(msg)
        orders.apply_all(session, requests, now, actor)
        return
    survivor = _person(_first(message, "PID"))
    if kind in _CHANGES:
        orders.merge(session, survivor, survivor, now, actor)
        return
    merged = [part for part in _parts(message) if part.name == "MRG"]
    if not merged:
        msg = "A merge needs the prior patient ID in MRG-1."
        raise Erroneous(msg)
    for part in merged:
        prior = Person(part.of(1, 1), part.of(1, 4))
        orders.merge(session, prior, survivor, now, actor)


def _requests(message: hl7.Message) -> Iterator[OrderRequest]:
    """Yield one request for each ORC group; what stands before the first group holds for all."""
    patient = _person(_first(message, "PID"))
    group: dict[str, _Part] = {}
    for part in _parts(message):
        if part.name == "ORC" and "ORC" in group:
            yield _request(group, patient)
            group = {}
        if part.name in ("ORC", "OBR", "TQ1", "IPC", "ZDS") and (group or part.name == "ORC"):
            group.setdefault(part.name, part)
    if group:
        yield _request(group, patient)


def _request(group: dict[str, _Part], patient: Person) -> OrderRequest:
    def of(name: str, field: int, component: int = 1) -> str:
        return group[name].of(field, component) if name in group else ""

    control = of("ORC", 1)
    if control not in _NEW | _CANCELLED:
        msg = f"The order control '{control[:10]}' in ORC-1 is not read here; known: NW, XO, SC, CA, DC."
        raise Erroneous(msg)
    filler = of("ORC", 3) or of("OBR", 3)
    told = of("OBR", 4, 2) or of("OBR", 4, 1)
    return OrderRequest(
        source=Source.HL7,
        # IHE sends the accession number in OBR-18; where it is left out, it is the filler's number.
        accession_number=of("IPC", 1) or of("OBR", 18) or filler,
        study_uid=of("IPC", 3) or of("ZDS", 1),
        placer_number=of("ORC", 2) or of("OBR", 2),
        filler_number=filler,
        patient_id=patient.patient_id,
        patient_id_issuer=patient.issuer,
        patient_name=patient.name,
        patient_birth_date=patient.birth_date,
        # A line break in a text that is only shown must not cost the order.
        description="".join(letter if letter.isprintable() else " " for letter in told),
        urgency=_urgency(of("TQ1", 9), of("OBR", 27, 6), of("ORC", 7, 6), of("OBR", 5)),
        cancelled=control in _CANCELLED,
    )


def _urgency(*words: str) -> Urgency | None:
    """Return what the first field that is filled in says (HL7 table 0485), None where none is."""
    word = next((word for word in words if word), "").strip().upper()
    if not word:
        return None
    if word in ("S", "STAT"):
        return Urgency.STAT
    return Urgency.URGENT if word in _URGENT else Urgency.ROUTINE


def _person(pid: _Part | None) -> Person:
    if pid is None:
        return Person("")
    family, given, middle, suffix, prefix = (pid.of(5, part) for part in range(1, 6))
    # HL7 puts the suffix before the prefix, DICOM after it (PS3.5 6.2.1).
    name = "^".join((family, given, middle, prefix, suffix)).rstrip("^")
    return Person(pid.of(3, 1), pid.of(3, 4), name, pid.of(7)[:8])


def _text(message: hl7.Message, name: str, field: int, component: int = 1) -> str:
    return _Part(message, message.segment(name)).of(field, component)


def _acknowledge(message: hl7.Message, code: str, sentence: str) -> str:
    reply = message.create_ack(code)
    msa = reply.segment("MSA")
    if sentence:
        msa.assign_field(message.escape(sentence[:200]), 3)
    return str(reply)


def refusal(sentence: str) -> str:
    """Return an AR for something that has no header to answer to."""
    lines: Sequence[str] = (r"MSH|^~\&|TRIAGE||||||ACK|0|P|2.5", f"MSA|AR|0|{sentence.replace('|', ' ')}")
    return "\r".join(lines) + "\r"
