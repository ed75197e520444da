"""Tensors to encode, NumPy's or PyTorch's, seen as float32 piece by piece.

float16 is widened, float64 is rounded to float32; decode gives back the dtype that came in. NumPy has no
bfloat16, so PyTorch's tensors of it come back as float32. PyTorch is not imported here: whoever passes its
tensors has done that. A tensor on another device stays there until its codes are made (quantizer.device).
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from quantizer.chunks import Piece, frozen
from quantizer.layout import DTYPE_CODES, MAX_TENSORS, TensorInfo, why_no_tensor

Tensors = Mapping[str, Any]
"""NumPy arrays or PyTorch tensors by name."""


class Source:
    """One tensor to encode."""

    def __init__(self, name: str, tensor: Any) -> None:
        """ValueError says why `tensor` cannot be encoded."""
        self.tensor: Any = None
        """What is on another device, flattened; else None."""
        if _of_torch(tensor):
            tensor = tensor.detach()
            if on_device(tensor):
                self.tensor, shape = tensor.reshape(-1), tuple(tensor.shape)
                dtype = np.dtype(str(tensor.dtype).removeprefix("torch.").replace("bfloat16", "float32"))
            else:
                tensor = tensor.float().numpy() if str(tensor.dtype) == "torch.bfloat16" else tensor.numpy()
        if self.tensor is None:
            shape, dtype = tensor.shape, tensor.dtype.newbyteorder("<")
        wrong = why_no_tensor(name, shape)
        if wrong:
            raise ValueError(f"tensor {name!r}: {wrong}")
        if dtype not in DTYPE_CODES:
            raise ValueError(f"tensor {name!r}: its dtype is {dtype}; float16, float32 and float64 are known")
        self.info = TensorInfo(name, shape, dtype)
        self._flat = np.ascontiguousarray(tensor).reshape(-1) if self.tensor is None else None
        self._is_ready = self._flat is not None and dtype == np.float32 and self._flat.dtype.isnative

    def piece(self, piece: Piece) -> np.ndarray:
        """Values of `piece` as float32: read-only, aligned, uncopied where they are float32 already."""
        if self._flat is None:
            return frozen(self.tensor[slice(*piece)].float().cpu().numpy())
        if self._is_ready:
            return frozen(self._flat[slice(*piece)])
        with np.errstate(over="ignore"):  # becomes Inf and is refused by name
            return frozen(self._flat[slice(*piece)].astype("<f4", copy=False))

    def refuse(self, piece: Piece, bad: int, limit: str = "float32") -> None:
        """ValueError if `bad` is an index into `piece` and not -1; `limit` is what finite values may lie
        beyond.
        """
        if bad < 0:
            return
        place = piece[0] + bad
        value = self._flat[place] if self._flat is not None else self.tensor[place].item()
        beyond = f", beyond {limit}" if np.isfinite(value) else ""
        raise ValueError(f"tensor {self.info.name!r}: value {place:,} of {self.info.size:,} is {value}{beyond}")


def sources(tensors: Tensors) -> list[Source]:
    """`tensors` in their order; ValueError says what cannot be encoded."""
    if len(tensors) > MAX_TENSORS:
        raise ValueError(f"{len(tensors):,} tensors; at most {MAX_TENSORS:,} are allowed")
    return [Source(name, tensor) for name, tensor in tensors.items()]


def on_device(tensor: Any) -> bool:
    """Whether PyTorch's `tensor` is elsewhere than in this process's memory."""
    return str(tensor.device) != "cpu"


def _of_torch(tensor: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(tensor, torch.Tensor)
