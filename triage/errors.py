"""The errors that a user may meet: each says what happened and what to do, in one sentence."""

from __future__ import annotations


class TriageError(Exception):
    """Base of every expected error; `code` is stable and documented, the message is one sentence."""

    code = "error"
    exit_code = 1


class ConfigurationError(TriageError):
    """The configuration can't be used; nothing listens yet (exit code 2)."""

    code = "configuration"
    exit_code = 2


class DatabaseVersionError(ConfigurationError):
    """The database is newer or older than this code."""

    code = "database-version"


class ModelRefused(ConfigurationError):
    """A model whose files, hash or input do not match its model.toml."""

    code = "model-refused"


class UnknownStudy(TriageError):
    """No study with that UID is known."""

    code = "unknown-study"


class IllegalTransition(TriageError):
    """The table of transitions has no such step from the present state."""

    code = "illegal-transition"


class Conflict(TriageError):
    """Somebody else changed the row first: read it again and decide anew."""

    code = "conflict"


class RefusedOnce(Conflict):
    """A refusal that is said once: what it wrote is kept although the request fails."""


class PolicyError(ConfigurationError):
    """A policy that would break a guarantee of the order, or that names what does not exist."""

    code = "policy"


class PeerUnreachable(TriageError):
    """A needed peer or service could not be reached (exit code 3)."""

    code = "peer-unreachable"
    exit_code = 3


class DataError(TriageError):
    """Training or evaluation data that can't be used; the sentence names the file, label or key."""

    code = "data"


class NotWritten(TriageError):
    """A file of a training or evaluation that can't be written; what was there before is whole."""

    code = "not-written"


class TrainingFailed(TriageError):
    """A training run that must not be kept: collapsed or diverged, or that can't go on."""

    code = "training-failed"
