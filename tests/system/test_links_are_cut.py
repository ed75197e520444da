"""A relay between agent and coordinator cuts connections; transfers resume from where they were."""

import asyncio
import json
from contextlib import suppress

import pytest


class Relay:
    """Forwards TCP from its own port to `target`; cuts every connection once so many bytes have gone up."""

    def __init__(self, target: str) -> None:
        self.host, port = target.split(":")
        self.port = int(port)
        self.cut_after_bytes: list[int] = []
        self.cuts = 0
        self.up_bytes = 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc):
        self.server.close()

    async def _accept(self, reader, writer):
        there, back = await asyncio.open_connection(self.host, self.port)
        await asyncio.gather(
            self._pump(reader, back, True), self._pump(there, writer, False), return_exceptions=True
        )

    async def _pump(self, source, sink, up):
        with suppress(ConnectionError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
                self.up_bytes += len(data) if up else 0
                if up and self.cut_after_bytes and self.up_bytes >= self.cut_after_bytes[0]:
                    self.cut_after_bytes.pop(0)
                    self.cuts += 1
                    sink.transport.abort()
                    source._transport.abort()
        sink.close()


@pytest.mark.parametrize("cuts_bytes", [[50_000_000], [10_000_000, 60_000_000, 95_000_000]])
async def test_a_cut_upload_of_100_mb_resumes_from_where_it_was(lone, cuts_bytes):
    lone.start_coordinator()
    async with Relay(lone.address) as relay:
        relay.cut_after_bytes = list(cuts_bytes)
        lone.start_agent("agent-1", relay.address)
        await lone.attached("agent-1")
        experiment = lone.noop(
            "cut", model_bytes=100_000_000, devices=1, rounds=1, bits_up=[32], bits_down=32, lost_after_s=60
        )
        run = await lone.begin(experiment)
        report = await lone.finished(run)
        device = report.rounds[1].devices[0]
        transfers = [json.loads(e.json) for e in await lone.story(run) if e.kind == "BytesMoved"]
        uploads = [t for t in transfers if t["direction"] == "up"]

    assert relay.cuts == len(cuts_bytes)
    assert device.status == "arrived"
    assert len(uploads) == len(cuts_bytes) + 1
    assert device.wire_up_bytes < 1.25 * device.update_bytes
