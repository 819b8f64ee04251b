"""What the page asks of other rooms of its process: pictures of films, and another try for a dead letter."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from triage.assess.classifier import Classifier
from triage.assess.decode import DecoderPool
from triage.assess.preview import previewer
from triage.store.tables import Result
from triage.work.queue import Queue


def page_services(
    data_dir: Path, pool: DecoderPool, classifier: Classifier | None, queue: Queue
) -> dict[str, Any]:
    """Return the parts of the web application that come from elsewhere, by their names.

    Heat maps are made by the process that judges films: without a classifier there are none.
    """

    def retry(session: Session, result: Result, now: datetime) -> None:
        from triage.deliver import outbox

        outbox.retry(session, queue, result, now)

    spool = data_dir / "spool"
    heat_map = None
    if classifier is not None:
        from triage.assess.heat import HeatMapper

        heat_map = HeatMapper(spool, classifier)
    return {"preview": previewer(spool, pool), "heat_map": heat_map, "retry": retry}
