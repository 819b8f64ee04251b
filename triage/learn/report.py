"""An evaluation as one HTML file that needs nothing else: every figure, the curves, the worst films."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from triage import RESEARCH_USE
from triage.learn import plots
from triage.learn.evaluate import Evaluation
from triage.learn.table import Section, sections
from triage.learn.written import whole, write_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto;
padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; display: block; overflow-x: auto; }
td, th { padding: .15rem .7rem; text-align: left; border-bottom: 1px solid #ddd;
font-variant-numeric: tabular-nums; }
img { max-width: 100%; } .note { background: #fff4d6; padding: .5rem 1rem; }
"""
_ALT = {
    "roc": "ROC curves",
    "reliability": "Reliability of any disease",
    "confusion": "Confusion of the six classes",
    "worst": "The films with the highest loss",
}


def write_report(made: Evaluation, path: Path) -> None:
    """Write the report of an evaluation; an older one stays until the new one is whole.

    Raises:
        NotWritten: the file can't be written.
    """
    write_text(path, page(made))


def page(made: Evaluation) -> str:
    """Return the report as HTML with its pictures inside."""
    document: Mapping[str, Any] = made.document
    title = f"{document['model']} on {document['split']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{escape(RESEARCH_USE)}</p>',
        f"<p>Weights {document['model_sha256']}<br>films {document['data_sha256']}</p>",
        *(_section(section) for section in sections(document)),
        "<h2>Pictures</h2>",
        *(_image(content, name) for name, content in pictures_of(made).items()),
    ]
    body = "\n".join(parts)
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n"


def pictures_of(made: Evaluation) -> dict[str, bytes]:
    """Return the pictures of an evaluation as PNG, by what they show."""
    frontal = made.judgement.judged.films.frontal
    answers = made.judgement.judged.take(frontal)
    shown = [made.pictures[index] for index in made.indices[np.flatnonzero(frontal)]]
    return {
        "roc": plots.roc(answers),
        "reliability": plots.reliability_plot(answers),
        "confusion": plots.confusion_plot(answers),
        "worst": plots.worst(answers, shown),
    }


def write_pictures(made: Evaluation, folder: Path) -> None:
    """Write the pictures of an evaluation into a folder, as `roc.png` and so on.

    Raises:
        NotWritten: a file can't be written.
    """
    for name, content in pictures_of(made).items():
        with whole(folder / f"{name}.png") as fresh:
            fresh.write_bytes(content)


def _image(content: bytes, name: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<p><img alt="{escape(_ALT[name])}" src="data:image/png;base64,{data}"></p>'


def _section(section: Section) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in section.heads)
    rows = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in section.lines)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    note = f"<p>{escape(section.note)}</p>" if section.note else ""
    return f"<h2>{escape(section.title)}</h2>{note}<table><tr>{head}</tr>{body}</table>"
