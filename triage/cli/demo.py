"""`triage demo`: a site with synthetic films, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Where the demonstration keeps its data.")] = Path(
        "triage-data/demo"
    ),
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 8080,
    dicom_port: Annotated[int, typer.Option(help="Port of the listener; 0 takes a free one.")] = 11112,
    until_judged: Annotated[
        bool, typer.Option("--until-judged", help="Stop when every sample is judged, instead of serving on.")
    ] = False,
) -> None:
    """Start a site of its own, send it synthetic films by C-STORE, show the list live, and serve on."""
    import logging
    import signal
    import threading

    from rich.console import Console

    from triage import demo as demonstration
    from triage import observe

    observe.start_logging("WARNING")
    logging.captureWarnings(capture=True)
    console = Console()
    service = demonstration.run(folder, port, dicom_port, console)
    stop = threading.Event()
    if not until_judged:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        console.print("Serving; Ctrl-C stops.")
        stop.wait()
    service.stop()
