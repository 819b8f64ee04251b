"""`triage import --query`: studies from a PACS, politely, and resumed where an earlier run stopped."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import typer

from triage.cli.options import print_json
from triage.cli.send import parse_address


def keys_of(said: list[str]) -> dict[str, str]:
    """Return the query keys of `KEYWORD=VALUE` options; exit code 2 for one that is none."""
    from pydicom.datadict import tag_for_keyword

    keys = {}
    for one in said:
        keyword, _, value = one.partition("=")
        if not value or tag_for_keyword(keyword) is None:
            print(f"triage: --key {one!r} is not KEYWORD=VALUE with a DICOM keyword.", file=sys.stderr)
            raise typer.Exit(2)
        keys[keyword] = value
    return keys


def fetch(
    address: str, keys: list[str], move_to: str, rate: float, config: Path | None, *, as_json: bool
) -> None:
    """Fetch every study that matches and that is not here in full yet."""
    from rich.console import Console
    from rich.progress import Progress

    from triage import settings
    from triage.app import utc_now
    from triage.cli.worklist import open_database
    from triage.receive.query import Pacs, find_studies, move_study
    from triage.store import instances

    loaded = settings.load(config)
    pacs = Pacs(*parse_address(address), calling=loaded.listener.ae_title)
    found = find_studies(pacs, keys_of(keys))
    db = open_database(config)
    with db.read() as session:
        here = {study.study_uid: len(instances.uids_of_study(session, study.study_uid)) for study in found}
    due = [study for study in found if study.objects is None or here[study.study_uid] < study.objects]
    pause = threading.Event()
    failed = []
    objects = 0
    with Progress(console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()) as bar:
        task = bar.add_task("Fetching", total=len(found), completed=len(found) - len(due))

        def each() -> None:
            if rate > 0:
                pause.wait(1 / rate)

        get = None if move_to else _getter(db, loaded, utc_now)
        for study in due:
            if get is None:
                brought = move_study(pacs, study.study_uid, move_to, each)
            else:
                brought = get(pacs, study.study_uid, each)
            objects += brought.completed
            if not brought.done:
                failed.append({"study_instance_uid": study.study_uid, "status": f"0x{brought.status:04X}"})
            bar.advance(task)
    _say(len(found), len(due), objects, failed, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _say(found: int, due: int, objects: int, failed: list[dict[str, str]], *, as_json: bool) -> None:
    if as_json:
        known = found - due
        print_json(
            {
                "studies": found,
                "known": known,
                "fetched": due - len(failed),
                "objects": objects,
                "failed": failed,
            }
        )
    else:
        print(f"fetched {due - len(failed)} of {found} studies; {found - due} were here already")
    for one in failed:
        print(f"triage: study {one['study_instance_uid']}: status {one['status']}.", file=sys.stderr)


def _getter(db: Any, loaded: Any, clock: Any) -> Any:
    """Return what fetches one study into this site's own spool and database, and completes it."""
    from datetime import timedelta

    from triage.domain.study import CompletedBy
    from triage.receive.completion import Completion
    from triage.receive.intake import Intake
    from triage.receive.query import get_study
    from triage.receive.refusals import RefusalLog
    from triage.receive.spool import Spool
    from triage.store import policies
    from triage.work.embedded import EmbeddedQueue

    queue = EmbeddedQueue(db)
    limit = loaded.listener.max_object_mb << 20
    spool = Spool(loaded.data_dir / "spool", loaded.spool.low_water_mb << 20, limit)
    refusals = RefusalLog(db, clock)
    refusals.start()
    intake = Intake(db, queue, spool, clock, policies.active, refusals)
    # All of a study came over one request: that is as good as a count at the source.
    completion = Completion(db, queue, clock, quiet=timedelta(seconds=1), evidence={CompletedBy.COUNT})

    def get(pacs: Any, study_uid: str, each: Any) -> Any:
        brought = get_study(pacs, study_uid, intake, each)
        if brought.done:
            completion.said(study_uid, CompletedBy.COUNT)
        return brought

    return get
