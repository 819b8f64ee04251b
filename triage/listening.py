"""The addresses of a process: put together from the settings, and asked for before anything is changed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from triage.deliver.dicom import DicomDestination
from triage.errors import ConfigurationError
from triage.receive.admission import PeerRule
from triage.receive.listener import ListenerConfig, TlsFiles
from triage.settings import Settings


@dataclass(frozen=True)
class Address:
    """Where something will listen; `keys` are the settings that say so."""

    what: str
    host: str
    port: int
    keys: str


def addresses(settings: Settings, *, receives: bool, serves_page: bool) -> Iterator[Address]:
    """Yield every address that a process of these settings listens on."""
    listener, orders, ups = settings.listener, settings.orders, settings.ups
    if receives:
        title = "The DICOM listener"
        yield Address(title, listener.host, listener.port, "listener.host or listener.port")
        if listener.tls.certificate and listener.tls.port:
            yield Address(f"{title} (TLS)", listener.host, listener.tls.port, "listener.tls.port")
    if serves_page:
        yield Address("The page", settings.web.host, settings.web.port, "web.host or web.port")
        if orders.hl7_port is not None:
            yield Address("HL7", orders.hl7_host, orders.hl7_port, "orders.hl7_host or orders.hl7_port")
        if ups.port is not None:
            yield Address("UPS", ups.host, ups.port, "ups.host or ups.port")


def check_free(wanted: Iterator[Address]) -> None:
    """Return if each address can be bound now and is asked for once; port 0 takes any.

    Raises:
        ConfigurationError: it is in use, not ours or asked for twice; the sentence names the setting.
    """
    seen: dict[tuple[str, int], str] = {}
    for one in wanted:
        place = (one.host, one.port)
        if one.port and place in seen:
            msg = f"{one.what} can't listen on {one.host}:{one.port} beside {seen[place]}; change {one.keys}."
            raise ConfigurationError(msg)
        seen[place] = one.what
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                one.host, one.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                # As the servers do: connections that ended a moment ago don't keep a restart waiting.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            msg = f"{one.what} can't listen on {one.host}:{one.port}: {error.strerror}; change {one.keys}."
            raise ConfigurationError(msg) from None


def own_listener(settings: Settings, listens_on: tuple[str, int], calling: str) -> DicomDestination:
    """Return the way to our own listener, from loopback: there it knows us whatever peers are listed."""
    host, port = listens_on
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared only
        host = "127.0.0.1"
    try:
        place = ip_address(host)
        source = "" if place.is_loopback else "127.0.0.1" if place.version == 4 else "::1"
    except ValueError:
        source = ""  # a name, such as localhost
    return DicomDestination("own listener", settings.listener.ae_title, host, port, calling, source)


def listener_config(settings: Settings) -> ListenerConfig:
    """Return what the DICOM listener is told; its certificates have been read once.

    Raises:
        ConfigurationError: half of a certificate, or one that can't be used.
    """
    listener, tls = settings.listener, settings.listener.tls
    if (tls.certificate is None) != (tls.key is None):
        msg = "The listener's TLS needs both listener.tls.certificate and listener.tls.key."
        raise ConfigurationError(msg)
    files = None
    if tls.certificate and tls.key:
        files = TlsFiles(tls.certificate, tls.key, tls.client_authorities, tls.port)
        files.context()
    return ListenerConfig(
        ae_title=listener.ae_title,
        host=listener.host,
        port=listener.port,
        max_associations=listener.max_associations,
        max_object_bytes=listener.max_object_mb << 20,
        check_called_ae=listener.check_called_ae,
        network_timeout=listener.network_timeout_seconds,
        tls=files,
        peers=tuple(
            PeerRule(p.ae_title, p.host, p.tls_only, p.max_object_mb << 20, p.max_rate) for p in settings.peer
        ),
    )
