"""Levers of the host, pulled by its meter daemon on behalf of this agent."""

from pathlib import Path

from edge_agent.meterd import messages
from edge_agent.meterd.link import Link, MeterLost
from fleet.domain import LeverInfo, LeverOutcome

TIMEOUT_S = 40.0
"""A change of power mode takes seconds, and one may wait for another."""


class RemoteLevers:
    """What this process sets is put back when it releases it or ends, however it ends. Calls may block."""

    def __init__(self, path: Path, agent: str) -> None:
        self._link = Link(path, lambda: (messages.Levers(agent), []), TIMEOUT_S)
        self._infos: tuple[LeverInfo, ...] = ()
        self._pulled = False
        self._reach()

    @property
    def infos(self) -> tuple[LeverInfo, ...]:
        """What the host offered when it was last reached."""
        return self._infos

    def set(self, lever: str, value: float) -> LeverOutcome:
        """Refused when the daemon cannot be reached."""
        try:
            self._reach()
            self._pulled = True
            answer = self._link.ask(messages.SetLever(lever, value))
        except MeterLost as error:
            return LeverOutcome(lever, value, None, str(error))
        if not isinstance(answer, messages.Outcomes) or len(answer.outcomes) != 1:
            return LeverOutcome(lever, value, None, f"the meter daemon answered {type(answer).__name__}")
        return answer.outcomes[0]

    def release(self) -> None:
        """Puts back what was set; the end of the connection does the same."""
        if not self._pulled:
            return
        self._pulled = False
        try:
            self._link.ask(messages.Release())
        except MeterLost:
            self._link.close()

    def close(self) -> None:
        """Ends the connection."""
        self._link.close()

    def _reach(self) -> None:
        try:
            offered = self._link.connect()
        except MeterLost:
            return
        if isinstance(offered, messages.Offered):
            self._infos = offered.levers
