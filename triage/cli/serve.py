"""`triage serve`: the service."""

from __future__ import annotations

from typing import Annotated

import typer

from triage.cli.options import Config


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    config: Config = None,
    role: Annotated[
        list[str] | None,
        typer.Option(help="What this process does: all, receive, assess, report, deliver, scheduler or web."),
    ] = None,
) -> None:
    """Serve until interrupted; prints the addresses that it listens on."""
    import gc
    import signal
    import threading

    from triage import app as composition
    from triage import observe, settings

    observe.start_logging()
    loaded = settings.load(config)
    policy = settings.load_policy(loaded, config)
    service = composition.Service(loaded, policy, roles=composition.roles_of(role or ["all"]))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    service.start()
    # What is loaded by now stays for good: a collector that walks through all of it holds up every thread.
    gc.collect()
    gc.freeze()
    for line in service.addresses():
        print(line, flush=True)
    stop.wait()
    service.stop()
