"""`triage send`: DICOM files to a peer, as they are stored."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triage.cli.options import Json, print_json
from triage.errors import PeerUnreachable

if TYPE_CHECKING:
    from triage.deliver.batch import Sent, Summary

_ADDRESS = re.compile(
    r"(?P<ae>[\x21-\x7e][\x20-\x7e]{0,15}?)@(?P<host>\[[0-9A-Fa-f:]+\]|[^@:\s]+):(?P<port>\d{1,5})"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("send")(send)


def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    to: Annotated[str, typer.Option("--to", metavar="AE@HOST:PORT", help="Where to send.")],
    calling: Annotated[
        str, typer.Option("--from", metavar="AE", help="The AE title that we call by.")
    ] = "TRIAGE",
    as_json: Json = False,
) -> None:
    """Send DICOM files by C-STORE, each in the transfer syntax in which it is stored."""
    from triage.deliver.batch import files_of, send_files
    from triage.deliver.dicom import DicomDestination, Sender

    ae_title, host, port = parse_address(to)
    missing = [path for path in paths if not path.exists()]
    if missing:
        _usage(f"{missing[0]} does not exist.")
    files = files_of(paths)
    if not files:
        _usage("no DICOM file is there.")
    if not 0 < len(calling) <= 16 or not calling.isascii() or "\\" in calling:
        _usage(f"'{calling}' is no AE title: it has 1 to 16 ASCII characters without a backslash.")
    sender = Sender(DicomDestination(to, ae_title, host, port, calling))
    with _progress(len(files), quiet=as_json) as done:
        summary = send_files(sender, files, done)
    if as_json:
        print_json(_json(summary, to))
    else:
        print(f"sent {len(files) - len(summary.failed)} of {len(files)} to {to}")
    for one in summary.failed:
        print(f"triage: {one.path}: {one.sentence}", file=sys.stderr)
    if summary.gone:
        raise PeerUnreachable(summary.gone)
    if summary.failed:
        raise typer.Exit(1)


def parse_address(text: str) -> tuple[str, str, int]:
    """Return the parts of AE@HOST:PORT; exit code 2 for a text that is none."""
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        _usage(f"'{text}' is no AE@HOST:PORT, for example ORTHANC@127.0.0.1:4242.")
    assert match is not None
    return match["ae"], match["host"].strip("[]"), int(match["port"])


def _usage(sentence: str) -> None:
    print(f"triage: {sentence}", file=sys.stderr)
    raise typer.Exit(2)


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[Sent], None]]:
    """Give what is called after each file: a progress bar on a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        count = 0

        def line(_one: Sent) -> None:
            nonlocal count
            count += 1
            if not quiet and (count % 100 == 0 or count == total):
                print(f"sent {count} of {total}", file=sys.stderr)

        yield line
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("Sending", total=total)
        yield lambda _one: bar.advance(task)


def _json(summary: Summary, to: str) -> dict[str, Any]:
    return {
        "to": to,
        "sent": len(summary.files) - len(summary.failed),
        "failed": len(summary.failed),
        "files": [
            {
                "path": str(one.path),
                "sop_instance_uid": one.sop_instance_uid,
                "ok": one.ok,
                "status": None if one.status is None else f"{one.status:04X}",
                "sentence": one.sentence,
            }
            for one in summary.files
        ],
    }
