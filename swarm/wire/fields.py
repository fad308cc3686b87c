"""What every message is made of: the root of all, and the types of fields, with their limits."""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Counter = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Moment = Annotated[float, msgspec.Meta(ge=0, le=32_503_680_000)]
"""Unix seconds before the year 3000: every system can write it as a date, and JSON as a number."""

Text = Annotated[str, msgspec.Meta(max_length=1024)]
PeerId = Annotated[str, msgspec.Meta(max_length=128)]
SessionId = Annotated[str, msgspec.Meta(min_length=16, max_length=64)]
Address = Annotated[str, msgspec.Meta(max_length=256)]
Addresses = Annotated[tuple[Address, ...], msgspec.Meta(max_length=32)]


class Message(msgspec.Struct, frozen=True, tag_field="t", array_like=True):
    """Root of all messages."""
