"""A request for images as the commands make it: followed to its end, joined again where the connection was cut."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from cli.client import Operator
from fleet import wire
from fleet.errors import CorruptUpdate, Unreachable
from fleet.generation import GenerationProgress, GenerationRequest, Placement, RequestReport
from fleet.v1 import operator_pb2 as pb

PATIENCE_S = 30.0
"""How long a coordinator that went away is waited for."""

RETRY_S = 0.3

News = Placement | GenerationProgress | RequestReport


async def follow(operator: Operator, request: GenerationRequest) -> AsyncIterator[News]:
    """Where it is placed, how far it is, its report when the images are safe, and its report at the end.

    A coordinator that is away is waited for PATIENCE_S, and the request joined: it outlives the connection.
    """
    clock = asyncio.get_running_loop().time
    gone_s: float | None = None
    message = pb.GenerateRequest(request=wire.to_proto(request))
    while True:
        try:
            async for answer in operator.stream("Generate", message):
                gone_s = None
                yield wire.from_proto(getattr(answer, str(answer.WhichOneof("message"))))
            return
        except Unreachable:
            gone_s = gone_s or clock()
            if clock() - gone_s > PATIENCE_S:
                raise
        await asyncio.sleep(RETRY_S)


async def images_of(operator: Operator, report: RequestReport) -> bytes:
    """The .npz of a request's images; CorruptUpdate where they came damaged."""
    payload = await operator.artifact(report.request.run, report.digest)
    if hashlib.sha256(payload).hexdigest() != report.digest:
        raise CorruptUpdate(f"the images of request {report.request.request} came damaged")
    return payload


async def cancel(operator: Operator, request: str, reason: str) -> RequestReport:
    """Ends a request, if it is not over."""
    answer = await operator.ask("CancelRequest", pb.CancelRequestRequest(request=request, reason=reason))
    return _report(answer.report)


async def of_run(operator: Operator, run: str) -> tuple[RequestReport, ...]:
    """The requests of a run, the oldest first."""
    return tuple([_report(m) async for m in operator.stream("ListRequests", pb.ListRequestsRequest(run=run))])


async def keep_quality(operator: Operator, run: str, laws_json: str) -> str:
    """Enters what a run's last model is worth; the model's sha256."""
    answer = await operator.ask("KeepQuality", pb.KeepQualityRequest(run=run, laws_json=laws_json))
    return str(answer.model_sha256)


async def quality(operator: Operator, run: str) -> tuple[str, tuple[str, ...]]:
    """A run's last model, and what it is known to be worth, as JSON, by metric."""
    answer = await operator.ask("GetQuality", pb.GetQualityRequest(run=run))
    return str(answer.model_sha256), tuple(answer.laws_json)


def _report(message: Any) -> RequestReport:
    report = wire.from_proto(message)
    assert isinstance(report, RequestReport)
    return report
