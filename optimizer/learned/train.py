"""Training by proximal policy optimisation: it and `environment` alone need the extra `learned`."""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from fleet.errors import BadRequest
from optimizer.fitting import Choice
from optimizer.learned.network import Network, described
from optimizer.learned.simulator import Simulator

NEEDED = ("gymnasium", "stable_baselines3")
DEVICES_AT_ONCE = 16
HIDDEN = (64, 64)
STEPS = 60_000
"""Assignments to learn from: about a minute on one core."""


class MissingExtra(BadRequest):
    """A package that only some need is not installed."""


def train(simulator: Simulator, menu: Sequence[Choice], seed: int, steps: int = STEPS) -> Network:
    """A network for `menu`, the same for the same seed on the same machine; MissingExtra without the extra."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise MissingExtra(
            f"training a policy needs {' and '.join(missing)}, which are not here: pip install 'wattbed[learned]'"
        )
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    device_rounds = import_module("optimizer.learned.environment").DeviceRounds
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # layers of 64 are slower on more
    try:
        many = DummyVecEnv([partial(device_rounds, simulator, seed + at) for at in range(DEVICES_AT_ONCE)])
        model = PPO(
            "MlpPolicy",
            many,
            n_steps=128,
            batch_size=512,
            n_epochs=6,
            learning_rate=1e-3,
            gamma=0.9,
            ent_coef=0.005,
            policy_kwargs={"net_arch": list(HIDDEN)},
            seed=seed,
            device="cpu",
        )
        model.learn(steps)
        layers = [m for m in model.policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)]
        layers.append(model.policy.action_net)
        arrays = [(x.weight.detach().numpy().copy(), x.bias.detach().numpy().copy()) for x in layers]
    finally:
        torch.set_num_threads(threads)
    origin = {
        "seed": seed,
        "steps": model.num_timesteps,
        "devices": len(simulator.seconds),
        "algorithm": "ppo",
        "numpy": np.__version__,
    }
    return Network(tuple(w for w, _ in arrays), tuple(b for _, b in arrays), described(menu), origin)
