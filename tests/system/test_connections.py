"""Ten thousand connections that want nothing do not keep an agent from its round."""

import resource
import socket

import psutil

CONNECTIONS = 10_000
SPARE_FILES = 500
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


async def test_ten_thousand_idle_connections_do_not_hurt(lone):
    """Every second one says that it speaks HTTP/2, the others say nothing. As many as this system lets one open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lone.start_coordinator()
    lone.start_agent("agent-1")
    await lone.attached("agent-1")
    process = psutil.Process(lone.running["coordinator"].process().pid)
    before_bytes = process.memory_info().rss
    host, _, port = lone.address.rpartition(":")
    sockets = []
    try:
        for i in range(min(CONNECTIONS, hard - SPARE_FILES)):
            sockets.append(socket.create_connection((host, int(port)), timeout=20))
            if i % 2:
                sockets[-1].sendall(PREFACE)
        report = await lone.finished(
            await lone.begin(lone.noop("crowd", model_bytes=100_000, devices=1, rounds=2))
        )
        grown_bytes = process.memory_info().rss - before_bytes
    finally:
        for each in sockets:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert report.run.phase == "completed"
    assert grown_bytes / len(sockets) < 100_000
