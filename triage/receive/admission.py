"""Who may open an association, and what each peer may send."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

#: The title by which `triage import` calls.
IMPORT_TITLE = "TRIAGE_IMPORT"


@dataclass(frozen=True)
class PeerRule:
    """One sender that is let in; an empty field matches every peer."""

    ae_title: str = ""
    #: Address or CIDR.
    host: str = ""
    tls_only: bool = False
    #: Largest object in bytes; 0 means the listener's own limit.
    max_object_bytes: int = 0
    #: Objects a second; 0 means no limit.
    max_rate: float = 0.0

    def matches(self, calling: str, host: str) -> bool:
        """Return whether the rule speaks of this peer."""
        if self.ae_title and self.ae_title != calling:
            return False
        return not self.host or _address(host) in ip_network(self.host, strict=False)


def _address(host: str) -> IPv4Address | IPv6Address:
    """Return a peer's address; a socket of both families writes an IPv4 one as `::ffff:127.0.0.1`."""
    found = ip_address(host)
    return getattr(found, "ipv4_mapped", None) or found


@dataclass(frozen=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4): result, source and reason, with the sentence for the administrator."""

    result: int
    source: int
    reason: int
    sentence: str

    @property
    def status(self) -> str:
        """The three numbers as they are shown."""
        return f"{self.result}/{self.source}/{self.reason}"


_UNKNOWN_CALLING = (1, 1, 3)
_UNKNOWN_CALLED = (1, 1, 7)
_LIMIT = (2, 3, 2)
_CONGESTION = (2, 3, 1)


@dataclass(frozen=True)
class Admission:
    """The rules of one listener; without a rule every peer on loopback is let in, and nobody else.

    With rules, this machine itself still is let in over loopback, for two things: a C-ECHO by the listener's
    own title (`triage doctor`, `/readyz`) and `triage import`. A title alone proves nothing.
    """

    ae_title: str
    check_called: bool = False
    max_associations: int = 100
    rules: tuple[PeerRule, ...] = field(default_factory=tuple)

    def decide(
        self, *, calling: str, called: str, host: str, tls: bool, only_echo: bool, others: int, room: bool
    ) -> PeerRule | Rejection:
        """Return the rule under which a peer is let in, or how it is rejected.

        `only_echo` says that nothing but C-ECHO was asked for; `others` counts the open associations without
        this one; `room` is false when the disk is full.
        """
        if self.check_called and called != self.ae_title:
            return Rejection(*_UNKNOWN_CALLED, f"The peer called '{called}', but this is '{self.ae_title}'.")
        rule = self._rule(calling, host)
        if (rule is None or (rule.tls_only and not tls)) and self._is_ours(calling, host, only_echo):
            rule = PeerRule()
        if rule is None:
            sentence = f"'{calling}' at {host} is not among the listed peers; add a [[peer]] to let it in."
            return Rejection(*_UNKNOWN_CALLING, sentence)
        if rule.tls_only and not tls:
            return Rejection(*_UNKNOWN_CALLING, f"'{calling}' must use TLS, but came over plain TCP.")
        if others >= self.max_associations:
            sentence = f"{others} associations are open already; raise listener.max_associations."
            return Rejection(*_LIMIT, sentence)
        if not room:
            return Rejection(*_CONGESTION, "The disk is below its low-water mark; free some space.")
        return rule

    def _rule(self, calling: str, host: str) -> PeerRule | None:
        if not self.rules:
            return PeerRule() if _address(host).is_loopback else None
        return next((rule for rule in self.rules if rule.matches(calling, host)), None)

    def _is_ours(self, calling: str, host: str, only_echo: bool) -> bool:
        ours = calling == IMPORT_TITLE or (only_echo and calling == self.ae_title)
        return ours and _address(host).is_loopback


class RateLimit:
    """Spreads the objects of a peer: `wait` returns when the next one may begin. Thread-safe."""

    def __init__(self, per_second: float) -> None:
        """Let the first object begin at once."""
        self._interval = 1.0 / per_second
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Hold the caller back until its turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(self._next, now)
            self._next = turn + self._interval
        if turn > now:
            # Not reading on is what slows the sender down: TCP tells it.
            threading.Event().wait(turn - now)
