"""The coordinator's few pages: /metrics for Prometheus, /sd for its service discovery, /healthz.

WSGI in threads of its own: the machine's state is frozen, so any thread may read it.
"""

import json
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.registry import Collector

from coordinator.loop import Loop
from coordinator.metrics import CoordinatorCollector
from coordinator.sessions import Sessions
from fleet.errors import AddressInUse

Start = Callable[[str, list[tuple[str, str]]], object]


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """A scrape every few seconds is no news."""


def serve(address: str, loop: Loop, sessions: Sessions, *more: Collector) -> tuple[WSGIServer, int]:
    """Serves the pages at host:port until `shutdown()`; gives the port, which 0 leaves to the system."""
    registry = CollectorRegistry()
    for collector in (CoordinatorCollector(loop, sessions), *more):
        registry.register(collector)
    ProcessCollector(namespace="wattbed_coordinator", registry=registry)
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                page: Iterable[bytes] = metrics(environ, start_response)
                return page
            case "/sd":
                start_response("200 OK", [("Content-Type", "application/json")])
                return [json.dumps(targets(loop)).encode()]
            case "/healthz":
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [b"ok\n"]
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"/metrics, /sd and /healthz are here\n"]

    host, _, port = address.rpartition(":")
    try:
        server = make_server(host, int(port), application, _Server, _Quiet)
    except OSError as error:
        raise AddressInUse(f"cannot serve HTTP on {address}: {error.strerror}") from error
    # `shutdown()` waits for the end of a poll.
    polling = {"poll_interval": 0.1}
    threading.Thread(target=server.serve_forever, kwargs=polling, name="http", daemon=True).start()
    return server, server.server_port


def targets(loop: Loop) -> list[dict[str, Any]]:
    """Attached agents that serve /metrics, in the form of Prometheus's HTTP service discovery."""
    return [
        {
            "targets": [device.metrics_address],
            "labels": {"agent": device.name, "device_kind": device.capabilities.kind},
        }
        for device in loop.state.devices.values()
        if device.metrics_address and device.session
    ]
