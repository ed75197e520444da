"""The two messages that carry bulk, coded by hand: the bytes of protobuf without its copies.

BlobChunk{data = 1} and PutBlobRequest{oneof header = 1, data = 2} are what any protobuf library makes and
reads. Ours go between memory and gRPC with one copy out and none in, where protobuf's own take two and two.
"""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from fleet.v1 import fleet_pb2, fleet_pb2_grpc

Buffer = bytes | memoryview

_CHUNK_TAG = b"\x0a"  # field 1, length-delimited
_DATA_TAG = b"\x12"  # field 2, length-delimited


def pack_chunk(data: Buffer) -> bytes:
    """The BlobChunk that carries `data`."""
    return b"".join((_CHUNK_TAG, _varint(len(data)), data))


def unpack_chunk(message: bytes) -> Buffer:
    """What a BlobChunk carries."""
    data = _only_field(_CHUNK_TAG, message)
    return bytes(fleet_pb2.BlobChunk.FromString(message).data) if data is None else data


def pack_put(part: Any) -> bytes:
    """The PutBlobRequest that carries `part`: a fleet_pb2.UpdateHeader or ImagesHeader, or bytes."""
    if isinstance(part, fleet_pb2.ImagesHeader):
        return bytes(fleet_pb2.PutBlobRequest(images=part).SerializeToString())
    if isinstance(part, fleet_pb2.UpdateHeader):
        return bytes(fleet_pb2.PutBlobRequest(header=part).SerializeToString())
    return b"".join((_DATA_TAG, _varint(len(part)), part))


def unpack_put(message: bytes) -> Any:
    """What a PutBlobRequest carries: a fleet_pb2.UpdateHeader or ImagesHeader, or bytes; None where it carries
    nothing.
    """
    data = _only_field(_DATA_TAG, message)
    if data is not None:
        return data
    request = fleet_pb2.PutBlobRequest.FromString(message)
    which = request.WhichOneof("message")
    return getattr(request, which) if which else None


def message_bytes(data: Buffer) -> int:
    """Length of the BlobChunk or PutBlobRequest that carries `data`."""
    return 1 + len(_varint(len(data))) + len(data)


def _or_none(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """`parse`, but None for what is no such message: raised here, an error would be a traceback in the log."""

    def parsed(message: bytes) -> Any:
        try:
            return parse(message)
        except DecodeError:
            return None

    return parsed


def _varint(value: int) -> bytes:
    """`value` in groups of seven bits, the lowest first."""
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _only_field(tag: bytes, message: bytes) -> Buffer | None:
    """The content of `message` where it is that one field and nothing else."""
    if message[:1] != tag:
        return None
    length, at, shift = 0, 1, 0
    while at < len(message) and shift <= 28:
        group = message[at]
        length |= (group & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if group < 0x80:
            return memoryview(message)[at:] if len(message) - at == length else None
    return None


class FleetStub(fleet_pb2_grpc.FleetStub):
    """The generated stub, but that GetBlob and GetFiller give buffers, PutBlob takes a header and buffers."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel)  # type: ignore[no-untyped-call]
        self.GetBlob = channel.unary_stream(
            "/fleet.v1.Fleet/GetBlob",
            request_serializer=fleet_pb2.GetBlobRequest.SerializeToString,
            response_deserializer=unpack_chunk,
        )
        self.GetFiller = channel.unary_stream(
            "/fleet.v1.Fleet/GetFiller",
            request_serializer=fleet_pb2.GetFillerRequest.SerializeToString,
            response_deserializer=unpack_chunk,
        )
        self.PutBlob = channel.stream_unary(
            "/fleet.v1.Fleet/PutBlob",
            request_serializer=pack_put,
            response_deserializer=fleet_pb2.PutBlobResponse.FromString,
        )


def add_fleet_to_server(servicer: fleet_pb2_grpc.FleetServicer, server: grpc.aio.Server) -> None:
    """The generated function, but that GetBlob and GetFiller yield buffers, PutBlob reads a header and buffers.

    What is no message of the schema comes to the servicer as None.
    """
    handlers: dict[str, Any] = {
        "Attach": grpc.stream_stream_rpc_method_handler(
            servicer.Attach,
            request_deserializer=_or_none(fleet_pb2.AgentMessage.FromString),
            response_serializer=fleet_pb2.CoordinatorMessage.SerializeToString,
        ),
        "StatBlob": grpc.unary_unary_rpc_method_handler(
            servicer.StatBlob,
            request_deserializer=_or_none(fleet_pb2.StatBlobRequest.FromString),
            response_serializer=fleet_pb2.StatBlobResponse.SerializeToString,
        ),
        "GetBlob": grpc.unary_stream_rpc_method_handler(
            servicer.GetBlob,
            request_deserializer=_or_none(fleet_pb2.GetBlobRequest.FromString),
            response_serializer=pack_chunk,
        ),
        "PutBlob": grpc.stream_unary_rpc_method_handler(
            servicer.PutBlob,
            request_deserializer=_or_none(unpack_put),
            response_serializer=fleet_pb2.PutBlobResponse.SerializeToString,
        ),
        "GetFiller": grpc.unary_stream_rpc_method_handler(
            servicer.GetFiller,
            request_deserializer=_or_none(fleet_pb2.GetFillerRequest.FromString),
            response_serializer=pack_chunk,
        ),
        "PutFiller": grpc.stream_unary_rpc_method_handler(
            servicer.PutFiller,
            request_deserializer=_or_none(fleet_pb2.PutFillerRequest.FromString),
            response_serializer=fleet_pb2.PutFillerResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("fleet.v1.Fleet", handlers),))
