"""What a damaged DICOM file makes its readers raise: pydicom promises no type of its own for it."""

from __future__ import annotations

import struct
import zlib

from pydicom.errors import BytesLengthException, InvalidDicomError

MALFORMED = (
    InvalidDicomError,
    BytesLengthException,
    NotImplementedError,  # a VR that nobody defined
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    ArithmeticError,  # a number beyond its type
    RecursionError,  # sequences in sequences in sequences
    struct.error,
    zlib.error,  # a deflated transfer syntax, cut short
)
"""Catch it around reading one file or value, never around more: it would hide a mistake of ours.

The disk's own ``OSError`` is not in it.
"""
