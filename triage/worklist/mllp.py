"""HL7 v2 over MLLP on a socket: one message in flight for each connection."""

from __future__ import annotations

import asyncio
import logging
import threading
from asyncio import IncompleteReadError
from collections.abc import Callable
from datetime import datetime
from typing import Any

from hl7.mllp import InvalidBlockError, start_hl7_server

from triage.errors import ConfigurationError
from triage.store.database import Database
from triage.worklist import messages

log = logging.getLogger(__name__)

#: A longer message is refused; what MLLP says of it is not read to its end.
MAX_MESSAGE = 512 * 1024
#: A connection that says nothing for so long is closed.
IDLE = 300.0  # seconds
_PATIENCE = 10.0  # seconds to start and to stop


class MllpServer:
    """Answers orders and patient changes; port 0 takes a free one.

    Where the database can't be written to, or we fail otherwise, the connection is closed without an answer,
    so that the sender keeps the message and sends it again.
    """

    def __init__(self, db: Database, clock: Callable[[], datetime], host: str, port: int) -> None:
        """Listen nowhere yet."""
        self._db = db
        self._clock = clock
        self._wanted = (host, port)
        self._loop = asyncio.new_event_loop()
        self._server: Any = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="mllp", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, after `start`."""
        host, port, *_ = self._server.sockets[0].getsockname()
        return str(host), int(port)

    def start(self) -> None:
        """Listen and answer.

        Raises:
            ConfigurationError: the address can't be used.
        """
        self._thread.start()
        host, port = self._wanted
        listening = start_hl7_server(self._serve, host=host, port=port, limit=MAX_MESSAGE)
        try:
            self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(_PATIENCE)
        except OSError as error:
            self._end()
            msg = f"HL7 can't be listened for on {host}:{port}: {error.strerror}; change orders.hl7_port."
            raise ConfigurationError(msg) from None

    def stop(self) -> None:
        """Close every connection; a message without its answer comes again and is then answered."""
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_PATIENCE)
        self._end()

    async def _close(self) -> None:
        self._server.close()
        running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        if not self._thread.is_alive():
            self._loop.close()

    async def _serve(self, reader: Any, writer: Any) -> None:
        try:
            while True:
                try:
                    raw = await asyncio.wait_for(reader.readblock(), IDLE)
                except ValueError:
                    await _refuse_length(writer)
                    return
                reply = await asyncio.to_thread(messages.answer, self._db, raw, self._clock)
                writer.writeblock(reply.text.encode("utf-8"))
                await writer.drain()
        except (IncompleteReadError, InvalidBlockError, TimeoutError, ConnectionError):
            pass
        except Exception:
            log.exception("an HL7 message could not be kept", extra={"event": "hl7_failed"})
        finally:
            writer.close()


async def _refuse_length(writer: Any) -> None:
    """Refuse what is longer than the limit: there is no header to answer to."""
    log.warning("an HL7 message was too long", extra={"event": "hl7_refused", "limit": MAX_MESSAGE})
    writer.writeblock(messages.refusal(f"The message is longer than {MAX_MESSAGE >> 10} KB.").encode())
    try:
        await asyncio.wait_for(writer.drain(), 1)
    except (TimeoutError, ConnectionError):
        return
