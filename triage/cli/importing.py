"""`triage import`: folders of films through the site's own listener, with everything that it promises."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from triage.cli.options import Config, Json, print_json
from triage.errors import PeerUnreachable

#: Files between two looks at the database: what is there already is not sent again.
_BATCH = 200


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(bring_in)


def bring_in(
    paths: Annotated[list[Path] | None, typer.Argument(help="DICOM files, or folders of them.")] = None,
    config: Config = None,
    query: Annotated[
        str, typer.Option("--query", metavar="AE@HOST:PORT", help="Fetch studies from a PACS instead.")
    ] = "",
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEYWORD=VALUE", help="What to ask for, e.g. StudyDate=20260101-."),
    ] = None,
    move_to: Annotated[
        str, typer.Option(metavar="AE", help="C-MOVE to our listener by this title; else C-GET.")
    ] = "",
    rate: Annotated[float, typer.Option(help="At most so many objects a second; 0: no limit.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Bring films into this site, from folders or from a PACS; run again, it goes on where it stopped."""
    if query:
        from triage.cli.fetching import fetch

        fetch(query, key or [], move_to, rate, config, as_json=as_json)
        return
    _folders(paths or [], config, rate, as_json=as_json)


def _folders(paths: list[Path], config: Path | None, rate: float, *, as_json: bool) -> None:
    import threading

    from rich.console import Console
    from rich.progress import Progress

    from triage import listening, settings
    from triage.cli.worklist import open_database
    from triage.deliver.batch import files_of, send_files
    from triage.deliver.dicom import Sender
    from triage.receive.admission import IMPORT_TITLE

    loaded = settings.load(config)
    listener = loaded.listener
    if listener.port == 0:
        print("triage: the listener takes a free port; set listener.port to import.", file=sys.stderr)
        raise typer.Exit(2)
    files = files_of(paths)
    if not files:
        print("triage: no DICOM file is there.", file=sys.stderr)
        raise typer.Exit(2)
    db = open_database(config)
    sender = Sender(listening.own_listener(loaded, (listener.host, listener.port), IMPORT_TITLE))
    pause = threading.Event()
    failed: list[Any] = []
    sent = known = 0
    with Progress(console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()) as bar:
        task = bar.add_task("Importing", total=len(files))

        def done(_one: Any) -> None:
            bar.advance(task)
            if rate > 0:
                pause.wait(1 / rate)

        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            new = _new(db, batch)
            known += len(batch) - len(new)
            bar.advance(task, len(batch) - len(new))
            summary = send_files(sender, new, done)
            failed += summary.failed
            sent += len(new) - len(summary.failed)
            if summary.gone:
                msg = f"{summary.gone} Start 'triage serve' and run the import again: it goes on here."
                raise PeerUnreachable(msg)
    if as_json:
        print_json(
            {
                "files": len(files),
                "sent": sent,
                "known": known,
                "failed": [{"path": str(one.path), "sentence": one.sentence} for one in failed],
            }
        )
    else:
        print(f"imported {sent} of {len(files)}; {known} were here already, {len(failed)} failed")
    for one in failed:
        print(f"triage: {one.path}: {one.sentence}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _new(db: Any, files: list[Path]) -> list[Path]:
    """Return the files whose SOP Instance UID is not known here yet."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    from triage.store import instances

    new = []
    with db.read() as session:
        for path in files:
            try:
                uid = str(
                    dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID
                )
            except (InvalidDicomError, OSError, AttributeError, ValueError):
                new.append(path)  # the sender says what is wrong with it
                continue
            if not instances.with_uid(session, uid):
                new.append(path)
    return new
