"""The same bytes through bare grpc.aio: what a round costs when nothing is done but to send it.

One server process and N client processes on loopback, one connection each, as wattbed is laid out. In
every round each client streams the model down and an update of the same size up, in chunks of 1 MiB;
the round ends when the last byte of the last update is in, and the next begins at once.

It does what a round cannot do without: both streams, all clients at the same time, a barrier. It does
nothing else: what arrives is counted and dropped, nothing is hashed, written to disk, decoded, averaged
or logged. So it is a lower bound. There are two: a chunk is a protobuf message, as in every service that
has a .proto ("protobuf", wattbed's own BlobChunk), or the bare bytes ("bytes").

    python raw_stream.py serve ADDRESS CODEC MODEL_BYTES CLIENTS ROUNDS FILE
    python raw_stream.py client ADDRESS CODEC MODEL_BYTES ROUNDS
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from fleet.v1.fleet_pb2 import BlobChunk

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Codec:
    """How a chunk becomes a message, and back."""

    pack: Callable[[bytes], bytes]
    unpack: Callable[[bytes], bytes]


CODECS = {
    "bytes": Codec(bytes, bytes),
    "protobuf": Codec(
        lambda chunk: BlobChunk(data=chunk).SerializeToString(),
        lambda message: BlobChunk.FromString(message).data,
    ),
}


@dataclass(frozen=True)
class RawRun:
    """Seconds of each round."""

    codec: str
    model_bytes: int
    agents: int
    round_s: list[float]


def measure(
    codec: str, model_bytes: int, agents: int, rounds: int, folder: Path, timeout_s: float = 300.0
) -> RawRun:
    """Runs `rounds` rounds of `agents` clients; logs go to `folder`."""
    from processes import Processes, free_port, listening

    address = f"127.0.0.1:{free_port()}"
    result = folder / "rounds.json"
    me = [sys.executable, str(Path(__file__).resolve())]
    sizes = [address, codec, str(model_bytes)]
    with Processes(folder) as processes:
        processes.start("server", [*me, "serve", *sizes, str(agents), str(rounds), str(result)], {})
        processes.wait_for("raw server", lambda: listening(address), 30)
        for i in range(agents):
            processes.start(f"client-{i}", [*me, "client", *sizes, str(rounds)], {})
        processes.wait_for("end of the last round", result.exists, timeout_s)
    return RawRun(codec, model_bytes, agents, json.loads(result.read_text()))


def chunks(payload: bytes) -> list[bytes]:
    """`payload` in pieces of CHUNK_BYTES."""
    return [payload[i : i + CHUNK_BYTES] for i in range(0, len(payload), CHUNK_BYTES)]


class Rounds:
    """The server's side. A download waits until its round is open, an upload closes it when it is the last."""

    def __init__(self, model: bytes, clients: int, rounds: int) -> None:
        self._model = chunks(model)
        self._model_bytes = len(model)
        self._clients = clients
        self._waiting = 0
        self._in = 0
        self._opened_at_s = 0.0
        self._opened = [asyncio.Event() for _ in range(rounds)]
        self.round_s: list[float] = []
        self.over = asyncio.Event()

    def _open(self, number: int) -> None:
        self._in = 0
        self._opened_at_s = time.perf_counter()
        self._opened[number].set()

    async def download(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """The model, once the round that `request` names is open; the first opens when all clients ask."""
        number = int(request)
        if number == 0:
            self._waiting += 1
            if self._waiting == self._clients:
                self._open(0)
        await self._opened[number].wait()
        for chunk in self._model:
            yield chunk

    async def upload(self, stream: AsyncIterator[bytes], context: Any) -> bytes:
        """Counts one update."""
        held = 0
        async for chunk in stream:
            held += len(chunk)
        if held != self._model_bytes:
            raise ValueError(f"an update of {held} bytes where {self._model_bytes} were due")
        self._in += 1
        if self._in == self._clients:
            self.round_s.append(time.perf_counter() - self._opened_at_s)
            if len(self.round_s) < len(self._opened):
                self._open(len(self.round_s))
            else:
                self.over.set()
        return b""


async def serve(address: str, codec: Codec, model_bytes: int, clients: int, rounds: int, result: Path) -> None:
    """Serves until all rounds are over, then writes their seconds to `result`."""
    state = Rounds(bytes(model_bytes), clients, rounds)
    server = grpc.aio.server()
    handlers = {
        "Download": grpc.unary_stream_rpc_method_handler(state.download, response_serializer=codec.pack),
        "Upload": grpc.stream_unary_rpc_method_handler(state.upload, request_deserializer=codec.unpack),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("raw.Raw", handlers),))
    server.add_insecure_port(address)
    await server.start()
    await state.over.wait()
    partial = result.with_suffix(".partial")
    partial.write_text(json.dumps(state.round_s))
    partial.rename(result)
    await server.wait_for_termination()


async def client(address: str, codec: Codec, model_bytes: int, rounds: int) -> None:
    """Takes part in all rounds."""
    update = chunks(bytes(model_bytes))

    async def sending() -> AsyncIterator[bytes]:
        for chunk in update:
            yield chunk

    async with grpc.aio.insecure_channel(address) as channel:
        download: Any = channel.unary_stream("/raw.Raw/Download", response_deserializer=codec.unpack)
        upload: Any = channel.stream_unary("/raw.Raw/Upload", request_serializer=codec.pack)
        for number in range(rounds):
            received = 0
            async for chunk in download(str(number).encode()):
                received += len(chunk)
            if received != model_bytes:
                raise ValueError(f"a model of {received} bytes where {model_bytes} were due")
            await upload(sending())


def main() -> None:
    match sys.argv[1:]:
        case "serve", address, codec, size, clients, rounds, result:
            asyncio.run(serve(address, CODECS[codec], int(size), int(clients), int(rounds), Path(result)))
        case "client", address, codec, size, rounds:
            asyncio.run(client(address, CODECS[codec], int(size), int(rounds)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
