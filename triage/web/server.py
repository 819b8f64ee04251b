"""The web application on a socket, in a thread of the serving process."""

from __future__ import annotations

import socket
import threading

import uvicorn
from fastapi import FastAPI

from triage.errors import ConfigurationError

_PATIENCE = 10.0  # seconds for the start and for open requests at the end


class WebServer:
    """Serves one application on one address; port 0 takes a free one."""

    def __init__(self, application: FastAPI, host: str, port: int) -> None:
        """Listen nowhere yet."""
        self._application = application
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, after `start`."""
        if self._socket is None:
            return self._host, self._port
        name = self._socket.getsockname()
        return str(name[0]), int(name[1])

    def start(self) -> None:
        """Listen and serve.

        Raises:
            ConfigurationError: the address can't be used.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # Only a socket that names its protocol gets TCP_NODELAY from asyncio; else an answer waits 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((self._host, self._port))
        except OSError as error:
            listening.close()
            place = f"{self._host}:{self._port}"
            msg = f"The page can't listen on {place}: {error.strerror}; change web.host or web.port."
            raise ConfigurationError(msg) from None
        listening.listen(128)
        self._socket = listening
        self._thread.start()

    def _run(self) -> None:
        if self._socket is not None:
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Close the streams and let open requests finish."""
        self._application.state.web.live.end()
        self._server.should_exit = True
        self._thread.join(_PATIENCE)
        if self._socket is not None:
            self._socket.close()
