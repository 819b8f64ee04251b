"""What the web application is made of: given by the composition root, never looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from triage.store.database import Database
from triage.store.tables import Result

#: Name, whether all is well, and one sentence that says what to do if not.
Check = Callable[[], tuple[str, bool, str]]


def _no_models() -> Sequence[Mapping[str, Any]]:
    return ()


@dataclass(frozen=True)
class Parts:
    """Everything that the routes need from the rest of the service."""

    db: Database
    clock: Callable[[], datetime]
    metrics: Callable[[], bytes]
    #: Path below the spool folder -> upright 8-bit grey PNG; None where no films are at hand.
    preview: Callable[[str], bytes] | None = None
    #: Path below the spool folder, finding -> heat map as PNG; None where no film is judged.
    heat_map: Callable[[str, str], bytes] | None = None
    #: Puts a dead result on its way again, in the caller's transaction; None: nothing is delivered.
    retry: Callable[[Session, Result, datetime], None] | None = None
    models: Callable[[], Sequence[Mapping[str, Any]]] = _no_models
    checks: Sequence[Check] = ()
    site: str = "triage"
    #: `{study_uid}`, `{accession_number}` and `{patient_id}` are filled in.
    viewer_url: str = ""
    #: The receiving room's STOW function; None: not served.
    stow: Callable[..., Any] | None = None
