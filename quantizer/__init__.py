"""Arrays to bytes and back, at 1 to 16 bits per value or 32, in the wire formats of docs/wire.md.

Imports NumPy, Numba, isal and zstandard only, and nothing of wattbed. PyTorch and bitsandbytes are imported when
one of their codecs is used (quantizer.bnb), for tensors on a GPU (quantizer.device) and to train at few bits
(quantizer.qat).
"""

from quantizer.beside import across
from quantizer.codecs import NAMES, Codec, codec
from quantizer.decoder import add_many_to, add_to, check, decode, norm, verify
from quantizer.encoder import BLOCK_SIZE, encode, encode_to
from quantizer.errors import PayloadError
from quantizer.feedback import Residuals, encode_with_feedback
from quantizer.layout import Header, TensorInfo, read_header

__all__ = [
    "BLOCK_SIZE",
    "NAMES",
    "Codec",
    "Header",
    "PayloadError",
    "Residuals",
    "TensorInfo",
    "across",
    "add_many_to",
    "add_to",
    "check",
    "codec",
    "decode",
    "encode",
    "encode_to",
    "encode_with_feedback",
    "norm",
    "read_header",
    "verify",
]
