"""An invite as a QR code, for a telephone to read off a screen.

In capitals an invite is "alphanumeric" (ISO/IEC 18004, 7.4.4), which takes 5.5 bits per character
instead of 8, and it is valid that way too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import segno

QUIET_ZONE = 4
"""Modules of light around the code, as the standard asks for."""

Modules = Sequence[Sequence[bool]]
"""Rows of a code with its quiet zone; True is dark."""


def modules(line: str) -> Modules | None:
    """The code of an invite; None if it is too long for any."""
    code = _code(line)
    if code is None:
        return None
    return [[bool(dark) for dark in row] for row in code.matrix_iter(border=QUIET_ZONE)]


def data_uri(line: str) -> str | None:
    """The same as an SVG, dark on white, that a page shows as an image."""
    code = _code(line)
    if code is None:
        return None
    return code.svg_data_uri(border=QUIET_ZONE, dark="#000", light="#fff", omitsize=True)


def _code(line: str) -> segno.QRCode | None:
    import segno

    try:
        return segno.make_qr(line.upper(), mode="alphanumeric", error="l")
    except segno.DataOverflowError:
        return None
