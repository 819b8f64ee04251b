"""A walk over the raw elements of a data set: bounded in depth and number, without recursion.

Nothing here builds objects out of what a sender wrote, so nothing that a sender writes can make it grow:
values are kept only for the few tags that are asked for, and everything else is passed over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pydicom._dicom_dict import DicomDictionary

from triage.receive.source import ExhaustedError, Source
from triage.receive.verdict import Refused, Status

#: Nesting of sequences beyond which no object is real; pydicom recurses, so this protects every later reader.
MAX_DEPTH = 100
MAX_ELEMENTS = 250_000
#: Values longer than this are cut: no attribute that we read is longer.
MAX_VALUE = 16_384

UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_GROUP = 0x7FE0
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# With lengths of two bytes and of four (PS3.5 7.1.2).
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")


@dataclass(frozen=True)
class Raw:
    """The value of one element as sent; `vr` is empty where the encoding does not state it."""

    vr: bytes
    value: bytes


@dataclass
class Walked:
    """What a walk found: values by `(tag of the enclosing sequence or 0, tag)`, and the pixels' extent."""

    values: dict[tuple[int, int], Raw] = field(default_factory=dict)
    elements: int = 0
    #: Bytes of the pixel data, without the framing of encapsulated ones; None without pixels.
    pixel_bytes: int | None = None
    encapsulated: bool = False


@dataclass(slots=True)
class _Frame:
    """A data set (the whole, or an item) or the list of items of a sequence that is being walked."""

    is_items: bool
    end: int | None
    implicit: bool
    tag: int = 0


class Walk:
    """One walk over one data set; `wanted` names the values to keep."""

    def __init__(
        self, source: Source, *, implicit: bool, big_endian: bool, wanted: frozenset[tuple[int, int]]
    ) -> None:
        """Read nothing yet."""
        self._source = source
        self._wanted = wanted
        order = ">" if big_endian else "<"
        # Whatever it is, an element begins with eight bytes: tag, then VR and length, or length alone.
        self._head = struct.Struct(order + "HH2sH")
        self._tag_and_length = struct.Struct(order + "HHL")
        self._long = struct.Struct(order + "L")
        self._stack = [_Frame(is_items=False, end=None, implicit=implicit)]
        self.found = Walked()

    def run(self) -> Walked:
        """Walk to the end.

        Raises:
            Refused: the bytes are no data set, end too early, or nest too deep (0xC000).
        """
        try:
            while self._step():
                pass
        except ExhaustedError as error:
            # What follows the pixels is padding or rubbish that no reader needs.
            if self.found.pixel_bytes is None or len(self._stack) > 1:
                msg = (
                    f"The data set is cut short or damaged: {error.missing} bytes are missing after "
                    f"{self._source.position}; send it again from the source."
                )
                raise Refused(Status.UNREADABLE, msg) from None
        return self.found

    def _step(self) -> bool:
        frame = self._stack[-1]
        position = self._source.position
        if frame.end is not None and position >= frame.end:
            if position > frame.end:
                raise Refused(
                    Status.UNREADABLE, "A sequence of the data set holds an item longer than itself."
                )
            self._stack.pop()
            return True
        if len(self._stack) == 1 and self._source.ended():
            return False
        head = self._source.take(8)
        group, element, vr, length = self._head.unpack(head)
        tag = group << 16 | element
        self.found.elements += 1
        if self.found.elements > MAX_ELEMENTS:
            raise Refused(Status.UNREADABLE, f"The data set has more than {MAX_ELEMENTS} elements.")
        if frame.is_items:
            self._item(frame, tag, self._long.unpack(head[4:])[0])
        elif vr in _SHORT and group < _PIXEL_GROUP and not frame.implicit:
            self._value(frame, tag, vr, length)
        else:
            self._element(frame, tag, head)
        return True

    def _item(self, frame: _Frame, tag: int, length: int) -> None:
        if tag == _SEQUENCE_END:
            self._stack.pop()
        elif tag == _ITEM:
            self._push(_Frame(False, self._end(length), frame.implicit, frame.tag))
        else:
            raise Refused(Status.UNREADABLE, "A sequence of the data set holds something that is no item.")

    def _push(self, frame: _Frame) -> None:
        if len(self._stack) > 2 * MAX_DEPTH:
            raise Refused(Status.UNREADABLE, f"The data set nests sequences more than {MAX_DEPTH} deep.")
        self._stack.append(frame)

    def _end(self, length: int) -> int | None:
        """Return where something of `length` ends; an end beyond the data is an end too early."""
        if length == UNDEFINED:
            return None
        left = self._source.left()
        if left is not None and length > left:
            raise ExhaustedError(length - left)
        return self._source.position + length

    def _element(self, frame: _Frame, tag: int, head: bytes) -> None:
        if tag in (_ITEM_END, _SEQUENCE_END):
            # A delimiter where none is due is passed over, as every reader does.
            if frame.end is None and len(self._stack) > 1:
                self._stack.pop()
            return
        vr, length = self._vr_and_length(frame, head)
        if tag in _PIXELS and len(self._stack) == 1:
            self._pixels(length)
        elif self._is_sequence(tag, vr, length):
            implicit = frame.implicit or vr == b"UN"
            self._push(_Frame(True, self._end(length), implicit, tag))
        elif length == UNDEFINED and vr in (b"OB", b"OW") and len(self._stack) > 1:
            self._fragments()  # the icon of a compressed film is compressed like the film (PS3.5 A.4)
        elif length == UNDEFINED:
            raise Refused(Status.UNREADABLE, "A value of the data set that can't have it has no length.")
        else:
            self._value(frame, tag, vr, length)

    def _vr_and_length(self, frame: _Frame, head: bytes) -> tuple[bytes, int]:
        vr = head[4:6]
        # A representation that is no two capitals means an implicit element, as pydicom reads it too: two
        # readers of one object must not disagree about whose it is.
        if frame.implicit or not (vr.isalpha() and vr.isupper()):
            return b"", self._long.unpack(head[4:])[0]
        if vr in _LONG:
            return vr, self._long.unpack(self._source.take(4))[0]
        return vr, self._head.unpack(head)[3]

    @staticmethod
    def _is_sequence(tag: int, vr: bytes, length: int) -> bool:
        if vr == b"SQ":
            return True
        if length == UNDEFINED:
            return vr in (b"UN", b"")
        return vr in (b"", b"UN") and tag in _SEQUENCES

    def _value(self, frame: _Frame, tag: int, vr: bytes, length: int) -> None:
        key = (0 if len(self._stack) == 1 else frame.tag, tag)
        if key not in self._wanted or len(self._stack) > 3:
            self._source.skip(length)
            return
        value = self._source.take(min(length, MAX_VALUE))
        self._source.skip(length - len(value))
        # The last of two at the top counts, as in pydicom; the first item of a sequence does.
        if key[0] == 0 or key not in self.found.values:
            self.found.values[key] = Raw(vr, value)

    def _pixels(self, length: int) -> None:
        if length != UNDEFINED:
            self._source.skip(length)
            self.found.pixel_bytes = length
            return
        self.found.encapsulated = True
        self.found.pixel_bytes = self._fragments()

    def _fragments(self) -> int:
        """Pass over the fragments of an encapsulated value, and return how many bytes they hold."""
        total = 0
        while True:
            group, element, length = self._tag_and_length.unpack(self._source.take(8))
            tag = group << 16 | element
            if tag == _SEQUENCE_END:
                return total
            if tag != _ITEM or length == UNDEFINED:
                raise Refused(Status.UNREADABLE, "The encapsulated pixel data is not made of fragments.")
            self.found.elements += 1
            if self.found.elements > MAX_ELEMENTS:
                raise Refused(Status.UNREADABLE, f"The pixel data has more than {MAX_ELEMENTS} fragments.")
            self._source.skip(length)
            total += length
