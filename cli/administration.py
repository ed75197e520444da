"""The Administration service as the commands call it: tokens, and what is done to devices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from fleet import wire
from fleet.domain import DeviceSummary, TokenSummary
from fleet.v1 import enrolment_pb2 as pb
from fleet.v1 import enrolment_pb2_grpc

CALL_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class NewToken:
    """A token that was just made: the only time that its text is to be had."""

    text: str
    summary: TokenSummary
    addresses: tuple[str, ...]


class Administration:
    """Calls over `channel`; `named` makes an error of gRPC the one that the coordinator raised."""

    def __init__(self, channel: grpc.aio.Channel, named: Callable[[grpc.aio.AioRpcError], Exception]) -> None:
        self._stub: Any = enrolment_pb2_grpc.AdministrationStub(channel)
        self._named = named

    async def _ask(self, method: str, request: Any) -> Any:
        try:
            return await getattr(self._stub, method)(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise self._named(error) from None

    async def create_token(
        self, kind: str | None, lives_s: float, uses: int, addresses: Sequence[str], benchmark: bool
    ) -> NewToken:
        """A token for `uses` devices of `kind`, or of any."""
        request = pb.CreateTokenRequest(
            kind=kind, lives_s=lives_s, uses=uses, addresses=addresses, benchmark=benchmark
        )
        answer = await self._ask("CreateToken", request)
        return NewToken(answer.text, wire.from_proto(answer.token), tuple(answer.addresses))

    async def tokens(self) -> tuple[TokenSummary, ...]:
        """Those that have not run out long ago."""
        answer = await self._ask("ListTokens", pb.ListTokensRequest())
        return tuple(wire.from_proto(t) for t in answer.tokens)

    async def withdraw_token(self, token: str) -> TokenSummary:
        """Nobody joins with it any more."""
        answer = await self._ask("WithdrawToken", pb.WithdrawTokenRequest(token=token))
        found: TokenSummary = wire.from_proto(answer.token)
        return found

    async def drain(self, device: str, drained: bool) -> DeviceSummary:
        """Nothing new for it, or again."""
        return _device(await self._ask("DrainDevice", pb.DrainDeviceRequest(device=device, drained=drained)))

    async def revoke(self, device: str, reason: str) -> DeviceSummary:
        """Its certificate is good for nothing any more."""
        return _device(await self._ask("RevokeDevice", pb.RevokeDeviceRequest(device=device, reason=reason)))

    async def rename(self, device: str, name: str) -> DeviceSummary:
        """It is called `name` from now on."""
        return _device(await self._ask("RenameDevice", pb.RenameDeviceRequest(device=device, name=name)))


def _device(answer: Any) -> DeviceSummary:
    found: DeviceSummary = wire.from_proto(answer.device)
    return found
