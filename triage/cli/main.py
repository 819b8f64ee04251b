"""`triage`: the root of the commands, and how an error becomes a sentence and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from triage import RESEARCH_USE, __version__
from triage.cli import (
    accounts,
    classify,
    database,
    demo,
    doctor,
    evaluate,
    feedback,
    importing,
    learn,
    policy,
    results,
    send,
    serve,
    simulate,
    worklist,
)
from triage.errors import TriageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=f"A worklist triager for chest radiographs. {RESEARCH_USE}",
)
for _module in (
    serve,
    demo,
    worklist,
    classify,
    send,
    importing,
    results,
    learn,
    evaluate,
    policy,
    simulate,
    feedback,
    database,
    accounts,
    doctor,
):
    _module.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that every command shares."""


def main() -> None:
    """Run a command; a `TriageError` becomes one sentence on standard error and its exit code."""
    try:
        app()
    except TriageError as error:
        print(f"triage: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:
        # The reader of our output left: not an error of ours.
        sys.stderr.close()
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
