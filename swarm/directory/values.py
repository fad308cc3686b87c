"""What nodes of the DHT send each other as values, read so that nothing in them can nest.

hivemind reads tuples within tuples without end, each level on the C stack: a few kilobytes from any
member would end the process (a segmentation fault, no exception), before a validator sees them. A
group's directory has text, bytes, and one dictionary of those per shelf.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..transport.light_hivemind import load

_DICTIONARY = 0x50
"""hivemind's msgpack extension for a dictionary with an expiry per sub-key."""

_entries = msgspec.msgpack.Decoder(tuple[float | None, float, list[tuple[str, bytes, float]]])


def serializer() -> Any:
    """A serializer for hivemind's nodes; reading raises `ValueError` on anything else."""
    base = load("hivemind.utils.serializer").MSGPackSerializer

    class FlatSerializer(base):  # type: ignore[misc, valid-type]
        @classmethod
        def loads(cls, buf: bytes) -> Any:
            try:
                return msgspec.msgpack.decode(buf, ext_hook=_dictionary)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise ValueError(f"no value of the directory: {error}") from error

    return FlatSerializer


def _dictionary(code: int, content: memoryview) -> Any:
    if code != _DICTIONARY:
        raise ValueError(f"extension {code}")
    _, _, entries = _entries.decode(content)
    found = load("hivemind.dht.storage").DictionaryDHTValue()
    with found.freeze():
        for member, record, expiry in entries:
            found.store(member, record, expiry)
    return found
