"""Many files to one peer: each is named with what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from triage.deliver import status
from triage.deliver.dicom import ContextRefused, NotSendable, Sender, StoredObject
from triage.deliver.status import Verdict
from triage.errors import PeerUnreachable

#: After so many files in a row without an answer the peer is taken for gone.
GONE_AFTER = 2


@dataclass(frozen=True)
class Sent:
    """What became of one file; `status` is the peer's, or None when there was no answer."""

    path: Path
    sop_instance_uid: str
    status: int | None
    sentence: str
    ok: bool


@dataclass(frozen=True)
class Summary:
    """What became of all of them; `gone` says why the peer could not be reached, or is empty."""

    files: tuple[Sent, ...]
    gone: str = ""

    @property
    def failed(self) -> list[Sent]:
        """The files that the peer doesn't have."""
        return [one for one in self.files if not one.ok]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the files named, and every DICOM file in the folders named, in order of name."""
    return [file for path in paths for file in _in_folder(path)]


def _in_folder(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            with file.open("rb") as opened:
                if opened.read(132)[128:] == b"DICM":
                    yield file


def send_files(sender: Sender, files: Sequence[Path], done: Callable[[Sent], None]) -> Summary:
    """Send files in order over one association, calling `done` after each; one bad file stops nothing.

    A peer that can't be reached ends it: the files that were left are named as not sent.
    """
    items: dict[Path, StoredObject | NotSendable] = {}
    for path in files:
        try:
            items[path] = StoredObject.read(path)
        except NotSendable as error:
            items[path] = error
        except OSError as error:
            items[path] = NotSendable(_unreadable(error))
    sender.plan(item for item in items.values() if isinstance(item, StoredObject))
    said: list[Sent] = []
    silent, gone = 0, ""
    for path, item in items.items():
        one, unreachable = _send(sender, path, item)
        said.append(one)
        done(one)
        silent = silent + 1 if unreachable else 0
        if silent >= min(GONE_AFTER, len(items)):
            gone = unreachable
            break
    left = [
        Sent(path, "", None, "Not sent: the peer was gone.", ok=False) for path in list(items)[len(said) :]
    ]
    for one in left:
        done(one)
    sender.release()
    return Summary((*said, *left), gone)


def _send(sender: Sender, path: Path, item: StoredObject | NotSendable) -> tuple[Sent, str]:
    """Return what became of a file, and why the peer was out of reach, if it was."""
    if isinstance(item, NotSendable):
        return Sent(path, "", None, str(item), ok=False), ""
    uid = item.sop_instance_uid
    try:
        answer = sender.send(item)
    except (ContextRefused, NotSendable) as error:
        return Sent(path, uid, None, str(error), ok=False), ""
    except PeerUnreachable as error:
        return Sent(path, uid, None, str(error), ok=False), str(error)
    except OSError as error:
        return Sent(path, uid, None, _unreadable(error), ok=False), ""
    sentence = status.sentence(answer)
    return Sent(
        path, uid, answer, f"{sentence[0].upper()}{sentence[1:]}.", status.verdict(answer) is Verdict.STORED
    ), ""


def _unreadable(error: OSError) -> str:
    return f"The file can't be read ({error.strerror})."
