"""Arrays to bytes and back, at 2 to 16 bits per value or 32, in the wire format of docs/wire.md.

Imports NumPy, Numba and isal only, and nothing of wattbed.
"""

from quantizer.decoder import add_to, check, decode, verify
from quantizer.encoder import BLOCK_SIZE, encode, encode_to
from quantizer.errors import PayloadError
from quantizer.feedback import Residuals, encode_with_feedback
from quantizer.layout import Header, TensorInfo, read_header

__all__ = [
    "BLOCK_SIZE",
    "Header",
    "PayloadError",
    "Residuals",
    "TensorInfo",
    "add_to",
    "check",
    "decode",
    "encode",
    "encode_to",
    "encode_with_feedback",
    "read_header",
    "verify",
]
