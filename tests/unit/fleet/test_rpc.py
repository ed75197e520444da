import grpc
import pytest

from fleet import errors, rpc
from fleet.v1 import operator_pb2, operator_pb2_grpc

EVERY_ERROR = [c for c in vars(errors).values() if isinstance(c, type)]


class Failing(operator_pb2_grpc.OperatorServicer):
    def __init__(self, error):
        self.error = error

    async def ListRuns(self, request, context):
        raise self.error

    async def WatchRun(self, request, context):
        yield operator_pb2.WatchRunResponse()
        raise self.error


@pytest.fixture
async def call():
    servers = []

    async def serve(error):
        server = grpc.aio.server(interceptors=(rpc.ErrorInterceptor(),))
        operator_pb2_grpc.add_OperatorServicer_to_server(Failing(error), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return operator_pb2_grpc.OperatorStub(rpc.channel(f"127.0.0.1:{port}"))

    yield serve
    for server in servers:
        await server.stop(None)


@pytest.mark.parametrize("cls", EVERY_ERROR)
async def test_an_error_arrives_as_the_error_it_was(call, cls):
    stub = await call(cls("3 of 4 are missing"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListRuns(operator_pb2.ListRunsRequest())
    error = rpc.wattbed_error(caught.value)
    assert (type(error), str(error), caught.value.code().name) == (cls, "3 of 4 are missing", cls.status)


async def test_a_stream_that_fails_midway_says_why(call):
    stub = await call(errors.UnknownRun("no run 'x'"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.WatchRun(operator_pb2.WatchRunRequest(run="x")):
            pass
    assert isinstance(rpc.wattbed_error(caught.value), errors.UnknownRun)


async def test_nobody_there_is_unreachable():
    stub = operator_pb2_grpc.OperatorStub(rpc.channel("127.0.0.1:1"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ListRuns(operator_pb2.ListRunsRequest())
    assert isinstance(rpc.wattbed_error(caught.value), errors.Unreachable)
