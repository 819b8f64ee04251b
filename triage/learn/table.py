"""An evaluation as sections, each a table: as text, as Markdown for the card, as HTML by the report.

What stands in a section is taken from the JSON document alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from triage.learn import bars

Document = Mapping[str, Any]
Rows = Mapping[str, Mapping[str, Any]]
#: Figures of which three digits would say nothing.
_FINE = frozenset({"ppv", "npv"})
#: What is counted of a row, and the head of its column.
_COUNTS = {"n": "films", "normals": "normal", "films": "of the class"}
_TITLES = {"source": "source", "view": "view", "age": "age band", "sex": "sex"}


@dataclass(frozen=True)
class Section:
    """A table with its title, and a sentence about it."""

    title: str
    heads: tuple[str, ...]
    lines: Sequence[Sequence[str]]
    note: str = ""


def row_keys(document: Document) -> list[str]:
    """Return the keys of the rows, in the order of the document."""
    return [key for key, value in document.items() if isinstance(value, Mapping) and "n" in value]


def cells(row: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and interval of each figure of a row; `<figure>_n` says that it is of fewer films."""
    for name, value in row.items():
        if name == "threshold" or not (value is None or isinstance(value, float)) or name.endswith("_ci"):
            continue
        digits = 4 if name in _FINE else 3
        interval = row.get(f"{name}_ci")
        span = f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}" if interval else ""
        films = f" ({row[f'{name}_n']} films)" if f"{name}_n" in row else ""
        yield name + films, "–" if value is None else f"{value:.{digits}f}", span


def sections(document: Document) -> Iterator[Section]:
    """Yield every section that an evaluation has something for."""
    yield _figures(document)
    any_disease, quality = document.get("any_disease", {}), document.get("quality", {})
    groups = document.get("groups", {})
    sources = {**any_disease.get("per_source", {}), **groups.get("source", {})}
    outcomes = document.get("outcome", {}).get("per_source", {})
    found = [
        _wide("What the service answers, by source", "source", outcomes),
        *_by_group({**groups, "source": sources}),
        _wide("Every class against the others", "class", quality.get("per_class", {})),
        *_classes_by_group(groups),
        _confused(document),
        _wide("Any disease at fixed points", "level", quality.get("trade_offs", {})),
        _wide("What an answer is worth", "prevalence", quality.get("predictive_values", {})),
        _wide("Calibration", "of", quality.get("calibration", {})),
        _wide("Sources that were never seen", "never seen", document.get("left_out", {})),
        _kinds(document.get("gate", {})),
        _not_evaluated(document.get("not_evaluated", {})),
        _engine(document.get("engine", {})),
        *_audit(document.get("audit", {})),
        _bars(document),
    ]
    yield from (section for section in found if section.lines)


def _figures(document: Document) -> Section:
    border = document.get("border", {})
    lines = []
    for key in row_keys(document):
        row = document[key]
        alone = dict(_values(border.get(key, {})))
        for number, (name, value, interval) in enumerate(cells(row)):
            head = (key, str(row["n"])) if number == 0 else ("", "")
            lines.append((*head, name, value, interval, alone.get(name, "")))
    note = (
        "Intervals are 95 %, by resampling patients. Thresholds come from val. Border alone is what the "
        "outer tenth of the film tells, with no lung in it."
    )
    few = "Too few films for any row; a row needs five."
    heads = ("row", "films", "figure", "value", "95 % interval", "border alone")
    return Section("Figures", heads, lines, note if lines else few)


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value, _ in cells(row) if value != "–")


def _wide(title: str, first: str, rows: Rows) -> Section:
    """Return rows with the same figures as a table, a column a figure."""
    shown = {label: {name: (value, span) for name, value, span in cells(row)} for label, row in rows.items()}
    names = list(dict.fromkeys(name for figures in shown.values() for name in figures))
    counts = [key for key in _COUNTS if any(key in row for row in rows.values())]
    lines = []
    for label, row in rows.items():
        told = [shown[label].get(name, ("", "")) for name in names]
        films = [str(row.get(key, "")) for key in counts]
        lines.append([label, *films, *(f"{value} ({span})" if span else value for value, span in told)])
    heads = (first, *(_COUNTS[key] for key in counts), *(name.replace("_", " ") for name in names))
    return Section(title, heads, lines)


def _by_group(groups: Mapping[str, Rows]) -> Iterator[Section]:
    for key, title in _TITLES.items():
        yield _wide(f"Any disease by {title}", title, groups.get(key, {}))


def _classes_by_group(groups: Mapping[str, Rows]) -> Iterator[Section]:
    for key, title in _TITLES.items():
        rows = {
            f"{label}: {name}": row
            for label, group in groups.get(key, {}).items()
            for name, row in group.get("classes", {}).items()
            # an earlier version kept one number a class
            if isinstance(row, Mapping) and "n" in row
        }
        note = "Where 20 films of the group are of the class and 20 of another."
        yield replace(_wide(f"Every class by {title}", f"{title}: class", rows), note=note)


def _kinds(gate: Mapping[str, Any]) -> Section:
    """Return what the gate does to each kind of picture that is no frontal film."""
    beside = gate.get("per_kind_unlabelled", {})
    kinds = {**gate.get("per_kind", {}), **{f"{kind} (not counted)": row for kind, row in beside.items()}}
    return _wide("What the gate turns away, by kind", "kind", kinds)


def _confused(document: Document) -> Section:
    lines = [
        (key if number == 0 else "", is_, said, str(films))
        for key in row_keys(document)
        for number, (is_, said, films) in enumerate(document[key].get("most_confused", ()))
    ]
    return Section("Most confused", ("row", "is", "called", "films"), lines)


def _not_evaluated(counts: Mapping[str, int]) -> Section:
    return Section("Not evaluated", ("reason", "films"), [(name, str(n)) for name, n in counts.items()])


def _engine(agreement: Mapping[str, Any]) -> Section:
    """Return how far the engine that serves was from the reference when the model was packaged."""
    heads = ("engine", "films", "largest change", "mean change", "tolerance")
    note = "Changes of a probability against torch in fp32, on frontal films of val."
    if not agreement:
        return Section("", heads, [])
    name, films, tolerance = (str(agreement[key]) for key in ("engine", "films", "tolerance"))
    line = (name, films, f"{agreement['largest']:.4f}", f"{agreement['mean']:.5f}", tolerance)
    return Section("The engine that serves", heads, [line], note)


def _audit(audit: Mapping[str, Any]) -> Iterator[Section]:
    """Yield what the audit found, if one was made."""
    found = {
        "Shortcuts": audit.get("shortcuts", {}),
        "Robustness": audit.get("robustness", {}),
        "Spoilt films at the gate": audit.get("gate", {}),
    }
    for title, changes in found.items():
        lines = [(name, "; ".join(_told(figures))) for name, figures in changes.items()]
        yield Section(title, ("change", "what it does"), lines)


def _told(figures: Mapping[str, Any]) -> Iterator[str]:
    for name, value in figures.items():
        shown = ", ".join(value) if isinstance(value, list) else _shown(value)
        yield f"{name.replace('_', ' ')} {shown}"


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _bars(document: Document) -> Section:
    heads = ("row", "figure", "this model", "plain baseline", "bar", "")
    title = "Against a plain baseline and the bars"
    return Section(title, heads, list(bars.lines(document)), bars.summary(document))


def table(document: Document) -> str:
    """Return an evaluation as text with aligned columns."""
    return "\n\n".join(_text(section) for section in sections(document))


def _text(section: Section) -> str:
    body = aligned([section.heads, *section.lines]) if section.lines else []
    return "\n".join([section.title.upper(), *filter(None, [section.note]), *body])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines in which the cells of a column begin at one place."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


def markdown(section: Section) -> str:
    """Return a section as Markdown."""
    rows: Iterable[Sequence[str]] = [section.heads, ["---"] * len(section.heads), *section.lines]
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([f"### {section.title}", "", *([section.note, ""] if section.note else []), *lines, ""])
