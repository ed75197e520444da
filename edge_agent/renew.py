"""Keeping the certificate young: asked for anew after two thirds of its life, over what it secures."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent import identity as identities
from edge_agent.client import delays, translated
from edge_agent.identity import Identity, signing_request
from fleet import rpc
from fleet.errors import NotAllowed, Unauthenticated, WattbedError
from fleet.v1 import enrolment_pb2 as pb
from fleet.v1 import enrolment_pb2_grpc

log = logging.getLogger(__name__)

CHECKED_S = 30.0
"""At most so long after it is due a renewal begins, also when the clock was set meanwhile."""
CALL_TIMEOUT_S = 20.0


class Keeper:
    """The identity in `folder` and its renewal. `skew_s`: by how much the coordinator's clock is ahead."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        self._folder = folder
        self.identity = identity
        self.skew_s = 0.0

    async def keep(self, address: Callable[[], str]) -> None:
        """Never returns, but raises what no repetition makes better. `address` is where the fleet is served."""
        waits = delays(longest_s=CHECKED_S)
        while True:
            lives_s = self.identity.expires_at_s - self.identity.issued_at_s
            due_s = self.identity.renewal_at_s - (time.time() + self.skew_s)
            if due_s > 0:
                await asyncio.sleep(min(due_s, CHECKED_S, max(lives_s / 10, 0.1)))
                continue
            try:
                await self._renew(address())
                waits = delays(longest_s=CHECKED_S)
            except (NotAllowed, Unauthenticated):
                raise
            except WattbedError as error:
                log.warning("the certificate could not be renewed, trying on: %s", error)
            await asyncio.sleep(next(waits))

    def rename(self, device: str) -> None:
        """Goes by `device` from now on."""
        if device != self.identity.device:
            log.info("this device is %s now", device)
            self.identity = identities.renamed(self.identity, device)
            identities.save(self._folder, self.identity)

    async def _renew(self, address: str) -> None:
        mine = self.identity
        channel = rpc.channel(address, mine.credentials)
        try:
            with translated():
                request = pb.RenewRequest(signing_request=signing_request(mine.key, mine.device))
                answer = await enrolment_pb2_grpc.EnrolmentStub(channel).Renew(request, timeout=CALL_TIMEOUT_S)
        finally:
            await channel.close()
        renewed = self.identity.with_certificate(answer.certificate)
        await asyncio.to_thread(identities.save, self._folder, renewed)
        self.identity = renewed
        log.info(
            "the certificate of %s lives for another %.0f s", renewed.device, renewed.expires_at_s - time.time()
        )
