"""An evaluation as one HTML file that needs nothing else: every figure, the curves, the worst films."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from triage import RESEARCH_USE
from triage.learn import plots
from triage.learn.bars import MARKS
from triage.learn.evaluate import Evaluation
from triage.learn.table import cells, row_keys
from triage.learn.written import write_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto;
padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } td, th { padding: .15rem .7rem; text-align: left;
border-bottom: 1px solid #ddd; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } .note { background: #fff4d6; padding: .5rem 1rem; }
"""
Table = list[list[str]]


def write_report(made: Evaluation, path: Path) -> None:
    """Write the report of an evaluation; an older one stays until the new one is whole.

    Raises:
        NotWritten: the file can't be written.
    """
    write_text(path, page(made))


def page(made: Evaluation) -> str:
    """Return the report as HTML with its pictures inside."""
    document: Mapping[str, Any] = made.document
    frontal = made.judgement.judged.films.frontal
    answers = made.judgement.judged.take(frontal)
    shown = [made.pictures[index] for index in made.indices[np.flatnonzero(frontal)]]
    title = f"{document['model']} on {document['split']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{escape(RESEARCH_USE)}</p>',
        f"<p>Weights {document['model_sha256']}<br>films {document['data_sha256']}</p>",
        "<h2>Figures</h2>",
        "<p>Intervals are 95 %, by resampling patients. Thresholds come from val. <i>Border alone</i> is "
        "what the outer tenth of the film tells, with no lung in it.</p>",
        _table(["row", "films", "figure", "value", "95 % interval", "border alone"], _rows(document)),
        "<h2>Against a plain baseline and the bars</h2>",
        _table(["row", "figure", "value", "plain baseline", "bar"], _marks(document)),
        "<h2>Any disease by group</h2>",
        _table(["group", "", "films", "normals", "figures"], _groups(document)),
        *_asked_for(document),
        "<h2>Curves</h2>",
        _image(plots.roc(answers), "ROC curves"),
        _image(plots.reliability_plot(answers), "Reliability of any disease"),
        _image(plots.confusion_plot(answers), "Confusion of the six classes"),
        "<h2>Judged worst</h2>",
        _image(plots.worst(answers, shown), "The films with the highest loss"),
        *_audit(document.get("audit")),
    ]
    body = "\n".join(parts)
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n"


def _image(content: bytes, alt: str) -> str:
    return (
        f'<p><img alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(content).decode()}"></p>'
    )


def _table(heads: list[str], rows: Iterator[list[str]] | Table) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    lines = ["".join(f"<td>{escape(text)}</td>" for text in row) for row in rows]
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _rows(document: Mapping[str, Any]) -> Iterator[list[str]]:
    border = document.get("border", {})
    for key in row_keys(document):
        row = document[key]
        for number, (name, value, interval) in enumerate(cells(row)):
            other = border.get(key, {}).get(name)
            head = [key, str(row["n"])] if number == 0 else ["", ""]
            yield [*head, name, value, interval, f"{other:.3f}" if isinstance(other, float) else ""]


def _marks(document: Mapping[str, Any]) -> Iterator[list[str]]:
    for mark in MARKS:
        value = mark.value(document)
        if value is not None:
            yield [mark.row, mark.figure, f"{value:.3f}", _number(mark.baseline), _number(mark.bar)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _groups(document: Mapping[str, Any]) -> Iterator[list[str]]:
    for group, values in document.get("groups", {}).items():
        for value, row in values.items():
            told = [f"{name} {shown} ({span})" for name, shown, span in cells(row) if span]
            yield [group, value, str(row["n"]), str(row["normals"]), "; ".join(told)]


def _asked_for(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what only some evaluations have: sources never seen, films without an answer."""
    if "left_out" in document:
        yield "<h2>Sources that were never seen</h2>"
        heads = ["group", "", "films", "normals", "figures"]
        yield _table(heads, _groups({"groups": {"source": document["left_out"]}}))
    if document.get("not_evaluated"):
        yield "<h2>Not evaluated</h2>"
        yield _table(["reason", "films"], [[name, str(n)] for name, n in document["not_evaluated"].items()])


def _audit(audit: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what the audit found, if one was made."""
    if audit is None:
        return
    for title, key in (("Shortcuts", "shortcuts"), ("Robustness", "robustness")):
        yield f"<h2>{title}</h2>"
        rows = [
            [name, "; ".join(f"{figure.replace('_', ' ')} {value}" for figure, value in found.items())]
            for name, found in audit[key].items()
        ]
        yield _table(["change", "what it does"], rows)
