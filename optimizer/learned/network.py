"""The trained network as plain arrays: layers of tanh, kept as .npz without pickle, run with NumPy."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from fleet.errors import BadRequest
from optimizer.fitting import Choice

FORMAT = 1


@dataclass(frozen=True)
class Network:
    """`weights` (out, in) and `biases` (out,) by layer; `menu` is what its outputs stand for."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    menu: tuple[dict[str, Any], ...]
    origin: dict[str, Any]

    def preferences(self, seen: np.ndarray) -> np.ndarray:
        """A number for each entry of the menu (M,), from what Memory.seen gives; the greatest is taken."""
        x = seen
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.tanh(w @ x + b)
        return np.asarray(self.weights[-1] @ x + self.biases[-1])

    def save(self, path: Path) -> None:
        """Writes it; BadRequest says why it cannot."""
        head = json.dumps({"format": FORMAT, "menu": self.menu, "origin": self.origin})
        layers = {f"w{at}": w for at, w in enumerate(self.weights)}
        layers |= {f"b{at}": b for at, b in enumerate(self.biases)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                np.savez(file, head=np.frombuffer(head.encode(), np.uint8), **layers)  # type: ignore[arg-type]
        except OSError as error:
            raise BadRequest(f"{path} cannot be written: {error.strerror}") from error


def described(menu: Sequence[Choice]) -> tuple[dict[str, Any], ...]:
    """The menu as plain values."""
    return tuple(asdict(choice) for choice in menu)


def load(path: Path, menu: Sequence[Choice]) -> Network:
    """The network in `path`; BadRequest where there is none, or one that was trained for another menu."""
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(bytes(file["head"]))
            if head["format"] != FORMAT:
                raise BadRequest(f"{path} has the format {head['format']}; this version reads {FORMAT}")
            count = sum(name.startswith("w") for name in file.files)
            weights, biases = (tuple(file[f"{kind}{at}"] for at in range(count)) for kind in "wb")
    except FileNotFoundError as error:
        raise BadRequest(f"{path} is not there: train it first, `wattbed learn EXPERIMENT`") from error
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, TypeError) as error:
        raise BadRequest(f"{path} holds no trained policy: {error}") from error
    found = Network(weights, biases, tuple(head["menu"]), head["origin"])
    if found.menu != described(menu):
        raise BadRequest(f"{path} was trained for another menu or bits_down; train it again for this one")
    sizes = [3 * len(menu), *(b.size for b in biases)]
    if [w.shape for w in weights] != list(zip(sizes[1:], sizes, strict=False)) or sizes[-1] != len(menu):
        raise BadRequest(f"{path} holds a network whose layers do not fit each other")
    return found
