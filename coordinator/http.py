"""The coordinator's few pages: /metrics for Prometheus, /sd for its service discovery, /healthz and /readyz.

WSGI in threads of its own: the machine's state is frozen, so any thread may read it.
"""

import json
from collections.abc import Iterable
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.registry import Collector

from coordinator.loop import Loop
from coordinator.metrics import CoordinatorCollector
from coordinator.readiness import Readiness
from coordinator.sessions import Sessions
from fleet import pages
from fleet.pages import Start


def serve(
    address: str, loop: Loop, sessions: Sessions, readiness: Readiness, *more: Collector
) -> tuple[WSGIServer, int]:
    """Serves the pages at host:port until `shutdown()`; gives the port, which 0 leaves to the system."""
    registry = CollectorRegistry()
    for collector in (CoordinatorCollector(loop, sessions), *more):
        registry.register(collector)
    ProcessCollector(namespace="wattbed_coordinator", registry=registry)

    def discovery(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        return pages.said("200 OK", json.dumps(targets(loop)), start, "application/json")

    host, _, port = address.rpartition(":")
    return pages.serve(
        host,
        int(port),
        {
            "/metrics": make_wsgi_app(registry),
            "/sd": discovery,
            "/healthz": pages.alive,
            "/readyz": pages.ready(readiness.checks),
        },
    )


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
