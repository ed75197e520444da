"""A device over some rounds as a gymnasium environment: see, take an entry, be told what it came to."""

from typing import Any

import gymnasium
import numpy as np

from optimizer.learned.memory import CLIP, Memory
from optimizer.learned.simulator import Drawn, Simulator

ROUNDS = 10
LATE = 1.0
"""What a missed deadline costs, in the joules of the dearest entry."""


class DeviceRounds(gymnasium.Env[np.ndarray, np.int64]):  # type: ignore[misc]
    """ROUNDS rounds of one drawn device. The reward is minus the joules, as a part of the dearest entry's."""

    def __init__(self, simulator: Simulator, seed: int) -> None:
        self._simulator, self._random = simulator, np.random.default_rng(seed)
        self._size = simulator.seconds.shape[1]
        self.observation_space = gymnasium.spaces.Box(-CLIP, CLIP, (3 * self._size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(self._size)
        self._drawn: Drawn
        self._memory: Memory
        self._round = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Another device, of which nothing is known."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self._drawn, self._memory, self._round = self._simulator.draw(self._random), Memory(self._size), 0
        return self._memory.seen(self._drawn.deadline_s), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One round."""
        seconds, joules = self._drawn.takes(int(action), self._random)
        self._memory.add(int(action), seconds, joules)
        self._round += 1
        reward = -joules / float(self._drawn.joules.max()) - LATE * (seconds > self._drawn.deadline_s)
        return self._memory.seen(self._drawn.deadline_s), reward, self._round >= ROUNDS, False, {}
