"""What two members say while one measures the line to the other; see `swarm.transport.gauge`.

asker -> other   Measure; then chunks, each a Chunk with a payload
other -> asker   Unmeasured, or as many chunks; Measured at the end
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from swarm.errors import RemoteProtocolError

from .fields import Message, Text

MAX_BYTES = 2 * 1024 * 1024
"""As many as one measurement moves each way."""


class Measure(Message, frozen=True, tag="measure"):
    """Asks for so many bytes, and means to send as many after them."""

    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_BYTES)]


class Chunk(Message, frozen=True, tag="chunk"):
    """Comes before some of them."""


class Measured(Message, frozen=True, tag="measured"):
    """All that were to come have come."""


class Unmeasured(Message, frozen=True, tag="unmeasured"):
    """This one does not measure now."""

    message: Text = ""


GaugeMessage = Measure | Chunk | Measured | Unmeasured

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[GaugeMessage] = msgspec.msgpack.Decoder(GaugeMessage)


def encode(message: Message) -> bytes:
    """A message as a frame's header."""
    return _encoder.encode(message)


def decode(header: bytes) -> GaugeMessage:
    """A frame's header as a message; raises `RemoteProtocolError` on anything else."""
    try:
        return _decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"measurement not understood: {error}") from error
