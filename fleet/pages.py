"""Small HTTP pages, served from threads of their own: for Prometheus, and for who asks whether a process is well.

Who sends nothing, or a byte now and then, is not waited for: a connection has TIMEOUT_S for each read, and when
MOST_CONNECTIONS are open the oldest makes room for the newest.
"""

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from fleet.errors import AddressInUse

TIMEOUT_S = 10.0
MOST_CONNECTIONS = 64

Start = Callable[[str, list[tuple[str, str]]], object]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]
Checks = Mapping[str, str | None]
"""What was looked at: what is wrong with it, None where nothing is."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any, **more: Any) -> None:
        self._connections: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        super().__init__(*args, **more)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Makes room for one more."""
        with self._lock:
            for oldest in list(self._connections.values())[: len(self._connections) - MOST_CONNECTIONS + 1]:
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
                self._connections.pop(id(oldest), None)
            self._connections[id(request)] = request
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forgets a connection."""
        with self._lock:
            self._connections.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke or took too long is no news."""


class _Quiet(WSGIRequestHandler):
    timeout = TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape every few seconds is no news."""


def serve(host: str, port: int, pages: Mapping[str, Application]) -> tuple[WSGIServer, int]:
    """Serves `pages` by path until `shutdown()`; gives the port, which 0 leaves to the system. AddressInUse."""

    def application(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if page := pages.get(environ["PATH_INFO"]):
            return page(environ, start)
        return said("404 Not Found", f"{', '.join(pages)} are here\n", start)

    try:
        server = make_server(host, port, application, _Server, _Quiet)
    except OSError as error:
        raise AddressInUse(f"cannot serve HTTP on {host}:{port}: {error.strerror or error}") from error
    # `shutdown()` waits for the end of a poll.
    polling = {"poll_interval": 0.1}
    threading.Thread(target=server.serve_forever, kwargs=polling, name="http", daemon=True).start()
    return server, server.server_port


def said(status: str, text: str, start: Start, kind: str = "text/plain") -> list[bytes]:
    """A page of text."""
    start(status, [("Content-Type", kind)])
    return [text.encode()]


def alive(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
    """/healthz: the process answers."""
    return said("200 OK", "ok\n", start)


def ready(checks: Callable[[], Checks]) -> Application:
    """/readyz: 200 where every check is well, else 503; either way what each one says, in JSON."""

    def page(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        found = checks()
        well = not any(found.values())
        body = {"ready": well, "checks": {name: problem or "ok" for name, problem in found.items()}}
        status = "200 OK" if well else "503 Service Unavailable"
        return said(status, json.dumps(body) + "\n", start, "application/json")

    return page
