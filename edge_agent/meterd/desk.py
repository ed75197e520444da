"""Where levers are asked for: one at a time, beside the event loop, never left half done."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from edge_agent.levers.board import Board
from fleet.domain import LeverInfo, LeverOutcome

P = ParamSpec("P")
R = TypeVar("R")


class LeverDesk:
    """The board of levers, for coroutines. Some levers take seconds; the counters are read meanwhile."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._hands = ThreadPoolExecutor(1, thread_name_prefix="levers")

    @property
    def infos(self) -> tuple[LeverInfo, ...]:
        """The levers that may be set."""
        return self._board.infos

    async def set(self, holder: str, lever: str, value: float) -> LeverOutcome:
        """What came of it."""
        return await self._by_hand(self._board.set, holder, lever, value)

    async def release(self, holder: str) -> None:
        """Puts back all that `holder` holds."""
        await self._by_hand(self._board.release, holder)

    async def close(self) -> None:
        """Puts back everything."""
        await self._by_hand(self._board.close)
        self._hands.shutdown()

    async def _by_hand(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        future = asyncio.get_running_loop().run_in_executor(self._hands, lambda: work(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            raise
