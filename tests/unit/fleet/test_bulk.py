from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from fleet import bulk
from fleet.v1 import fleet_pb2

data = st.binary(max_size=300) | st.integers(0, 1 << 17).map(bytes)


@given(data)
def test_a_chunk_is_what_protobuf_makes_and_reads(data):
    message = fleet_pb2.BlobChunk(data=data).SerializeToString()
    assert (bulk.unpack_chunk(message), fleet_pb2.BlobChunk.FromString(bulk.pack_chunk(data)).data) == (data, data)


@given(data)
def test_a_part_of_an_upload_is_what_protobuf_makes_and_reads(data):
    message = fleet_pb2.PutBlobRequest(data=data).SerializeToString()
    assert (bulk.unpack_put(message), fleet_pb2.PutBlobRequest.FromString(bulk.pack_put(data)).data) == (
        data,
        data,
    )


def test_a_header_is_what_protobuf_makes_and_reads():
    header = fleet_pb2.UpdateHeader(run="x-1", round=3, size_bytes=1 << 40)
    message = fleet_pb2.PutBlobRequest(header=header)
    assert (
        bulk.unpack_put(message.SerializeToString()),
        fleet_pb2.PutBlobRequest.FromString(bulk.pack_put(header)),
    ) == (
        header,
        message,
    )


def outcome(read, message):
    """What a reader makes of a message, or the kind of its error."""
    try:
        return read(message)
    except DecodeError as error:
        return type(error)


def by_protobuf(message):
    request = fleet_pb2.PutBlobRequest.FromString(message)
    which = request.WhichOneof("message")
    return getattr(request, which) if which else None


@given(st.binary(max_size=40))
def test_bytes_that_are_no_message_are_read_as_protobuf_reads_them(message):
    assert outcome(bulk.unpack_put, message) == outcome(by_protobuf, message)


def test_an_empty_upload_message_carries_nothing():
    assert bulk.unpack_put(b"") is None


@given(data)
def test_the_length_of_a_message_is_known_before_it_is_made(data):
    assert bulk.message_bytes(data) == len(bulk.pack_chunk(data)) == len(bulk.pack_put(data))
