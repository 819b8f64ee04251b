"""The rows of an evaluation as text: for people, and for the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]
#: Keys of a row that are no figures of their own.
_NO_FIGURES = frozenset({"n", "normals", "threshold", "per_source", "most_confused"})


def row_keys(document: Document) -> list[str]:
    """Return the keys of the rows, in the order of the document."""
    return [key for key, value in document.items() if isinstance(value, Mapping) and "n" in value]


def cells(row: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and interval of each figure of a row."""
    for name, value in row.items():
        if name in _NO_FIGURES or name.endswith("_ci"):
            continue
        interval = row.get(f"{name}_ci")
        shown = f"{interval[0]:.3f}–{interval[1]:.3f}" if interval else ""
        yield name, "–" if value is None else f"{value:.3f}", shown


def table(document: Document) -> str:
    """Return every row with its interval and what the border alone gives, a figure a line."""
    border = document.get("border", {})
    lines = [f"{'row':24} {'n':>5}  {'figure':24} {'value':>6}  {'95 % interval':13}  border alone"]
    for key in row_keys(document):
        row = document[key]
        alone = border.get(key, {})
        for number, (name, value, interval) in enumerate(cells(row)):
            head = f"{key:24} {row['n']:>5}" if number == 0 else " " * 30
            other = alone.get(name)
            shown = f"{other:.3f}" if isinstance(other, float) else ""
            lines.append(f"{head}  {name:24} {value:>6}  {interval:13}  {shown}".rstrip())
    for source, row in document.get("any_disease", {}).get("per_source", {}).items():
        figures = ", ".join(f"{name} {value} ({interval})" for name, value, interval in cells(row))
        lines.append(f"any_disease, {source}: {row['n']} films, {row['normals']} normal; {figures}")
    for source, row in document.get("left_out", {}).items():
        figures = ", ".join(
            f"{name} {value} ({interval})" for name, value, interval in cells(row) if interval
        )
        lines.append(f"never seen, {source}: {row['n']} films, {row['normals']} normal; {figures}")
    for reason, count in document.get("not_evaluated", {}).items():
        lines.append(f"not evaluated, {reason}: {count} films")
    if len(lines) == 1:
        lines.append("Too few films for any row; a row needs five.")
    return "\n".join(lines)


def markdown(document: Document) -> str:
    """Return the rows as a Markdown table with intervals and the border's figures."""
    border = document.get("border", {})
    lines = ["| row | films | figure | value | 95 % interval | border alone |", "|---|---|---|---|---|---|"]
    for key in row_keys(document):
        row = document[key]
        for number, (name, value, interval) in enumerate(cells(row)):
            other = border.get(key, {}).get(name)
            shown = f"{other:.3f}" if isinstance(other, float) else ""
            head = f"`{key}` | {row['n']}" if number == 0 else " |"
            lines.append(f"| {head} | {name} | {value} | {interval} | {shown} |")
    return "\n".join(lines)
