"""Content items of a structured report (PS3.3 C.17.3), one function for each form that we write."""

from __future__ import annotations

from collections.abc import Iterable

import highdicom.sr as hd
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

CONTAINS = "CONTAINS"
HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
INFERRED_FROM = "INFERRED FROM"


def container(
    name: Code, children: Iterable[Dataset], template: str = "", relationship: str | None = CONTAINS
) -> Dataset:
    """Return a container with its children; `template` is a DCMR identifier such as 1501."""
    item = hd.ContainerContentItem(
        name, is_content_continuous=False, template_id=template or None, relationship_type=relationship
    )
    return _with(item, children)


def code(relationship: str, name: Code, value: Code) -> Dataset:
    """Return a coded value."""
    return hd.CodeContentItem(name, value, relationship)


def text(relationship: str, name: Code, value: str) -> Dataset:
    """Return a text."""
    return hd.TextContentItem(name, value, relationship)


def uidref(relationship: str, name: Code, value: str) -> Dataset:
    """Return a reference to a UID."""
    return hd.UIDRefContentItem(name, value, relationship)


def number(
    relationship: str, name: Code, value: float, unit: Code, children: Iterable[Dataset] = ()
) -> Dataset:
    """Return a measured number: exact as Floating Point Value, six significant digits as Numeric Value."""
    item = hd.NumContentItem(name, float(value), unit, relationship_type=relationship)
    item.MeasuredValueSequence[0].NumericValue = f"{value:.6g}"
    return _with(item, children)


def image(relationship: str, name: Code | None, film: Dataset, children: Iterable[Dataset] = ()) -> Dataset:
    """Return a reference to a film; an image library entry has no concept name (TID 1601)."""
    placeholder = Code("121112", "DCM", "Source of Measurement")
    item = hd.ImageContentItem(
        name or placeholder, film.SOPClassUID, film.SOPInstanceUID, relationship_type=relationship
    )
    if name is None:
        del item.ConceptNameCodeSequence
    return _with(item, children)


def date_and_time(relationship: str, names: tuple[Code, Code], film: Dataset) -> list[Dataset]:
    """Return the study's date and time as items, as far as the film states them."""
    items: list[Dataset] = []
    for name, kind, keyword, attribute in (
        (names[0], "DATE", "StudyDate", "Date"),
        (names[1], "TIME", "StudyTime", "Time"),
    ):
        if film.get(keyword):
            item = hd.CodedConcept(name.value, name.scheme_designator, name.meaning)
            entry = Dataset()
            entry.RelationshipType = relationship
            entry.ValueType = kind
            entry.ConceptNameCodeSequence = [item]
            setattr(entry, attribute, film[keyword].value)
            items.append(entry)
    return items


def _with(item: Dataset, children: Iterable[Dataset]) -> Dataset:
    children = list(children)
    if children:
        # Set past highdicom's own check: it knows no image without a concept name.
        Dataset.__setattr__(item, "ContentSequence", children)
    return item
