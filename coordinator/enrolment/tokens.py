"""Join tokens: given out on demand, and for a testbed whose agents find one in a file."""

import asyncio
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from coordinator.enrolment.events import TokenCreated, TokenWithdrawn
from coordinator.loop import Loop
from fleet.errors import BadRequest
from fleet.identity import JoinToken, parse_token, secret_hash
from fleet.kinds import kind as kind_named
from fleet.tls import write_secret

log = logging.getLogger(__name__)

SECRET_BYTES = 16
NAME_BYTES = 4
LONGEST_S = 366 * 86400.0
MOST_USES = 10_000

TESTBED_LIVES_S = 86400.0
TESTBED_RENEWED_S = 43200.0


async def create(
    loop: Loop,
    authority_sha256: str,
    addresses: Sequence[str],
    *,
    kind: str | None,
    lives_s: float,
    uses: int,
    benchmark: bool,
) -> JoinToken:
    """A new token, in the log. BadRequest: no such kind, or a life or number of uses that makes no sense."""
    if kind is not None:
        kind_named(kind)
    if not 0 < lives_s <= LONGEST_S:
        raise BadRequest(f"a token that lives {lives_s:g} s; it may live up to {LONGEST_S:.0f} s")
    if not 1 <= uses <= MOST_USES:
        raise BadRequest(f"a token for {uses} devices; it may be for 1 to {MOST_USES}")
    token = JoinToken(
        authority_sha256,
        secrets.token_hex(NAME_BYTES),
        secrets.token_bytes(SECRET_BYTES),
        tuple(dict.fromkeys(addresses)),
        kind,
    )
    now_s = loop.now_s()
    await loop.submit(
        TokenCreated(now_s, token.token, secret_hash(token.secret), kind, uses, now_s + lives_s, benchmark)
    )
    return token


async def keep_in(path: Path, loop: Loop, authority_sha256: str, addresses: Sequence[str]) -> None:
    """Keeps a good token in the file at `path`, for the agents of a testbed that may read it; never returns then.

    A token that is there and cannot be written, as a secret of a swarm, is admitted instead. BadRequest: it is
    none, or says another authority.
    """
    given = await asyncio.to_thread(_given, path)
    if given is not None:
        await _admit(given, path, loop, authority_sha256)
        return
    before: str | None = None
    while True:
        token = await create(
            loop,
            authority_sha256,
            addresses,
            kind=None,
            lives_s=TESTBED_LIVES_S,
            uses=MOST_USES,
            benchmark=False,
        )
        await asyncio.to_thread(write_secret, path, token.text().encode())
        if before is not None:
            await loop.submit(TokenWithdrawn(loop.now_s(), before))
        before = token.token
        await asyncio.sleep(TESTBED_RENEWED_S)


def _given(path: Path) -> JoinToken | None:
    if not path.exists() or os.access(path, os.W_OK):
        return None
    return parse_token(path.read_text(encoding="utf-8"))


async def _admit(token: JoinToken, path: Path, loop: Loop, authority_sha256: str) -> None:
    if token.authority_sha256 != authority_sha256:
        raise BadRequest(f"the token in {path} says another authority than this coordinator's: make both anew")
    if token.token not in loop.state.register.tokens:
        now_s = loop.now_s()
        hashed = secret_hash(token.secret)
        await loop.submit(
            TokenCreated(now_s, token.token, hashed, token.kind, MOST_USES, now_s + LONGEST_S, benchmark=False)
        )
        log.info("token %s of %s is admitted for %.0f days", token.token, path, LONGEST_S / 86400)
