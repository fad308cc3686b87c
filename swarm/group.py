"""A group: the private swarm that an invite opens.

Members share a secret. Whoever cannot prove to know it gets no link and no place in the
directory. The proof binds both peer ids (which libp2p's handshake has proved) and a nonce of each
side, so that it is worth nothing on any other connection.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from swarm.errors import ConfigError

SECRET_LEN = 32
_TAG_LEN = 16


@dataclass(frozen=True)
class Group:
    """One group, by its secret of `SECRET_LEN` bytes; `name` is for people."""

    secret: bytes = field(repr=False)
    name: str = ""

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_LEN:
            raise ConfigError(f"a group's secret has {SECRET_LEN} bytes, not {len(self.secret)}")

    @classmethod
    def create(cls, name: str = "") -> Group:
        """A new group with a random secret."""
        return cls(secrets.token_bytes(SECRET_LEN), name)

    @property
    def id(self) -> str:
        """A public name for the group that tells nothing of its secret: 16 hex digits."""
        return self._mac(b"id").hex()[:16]

    def proof(self, prover: str, verifier: str, nonce: bytes) -> bytes:
        """Shows `verifier`, who chose `nonce`, that `prover` knows the secret."""
        return self._mac(b"link", prover.encode(), verifier.encode(), nonce)

    def verifies(self, proof: bytes, prover: str, verifier: str, nonce: bytes) -> bool:
        """Whether `proof` is what `prover` must show for `nonce`."""
        return hmac.compare_digest(proof, self.proof(prover, verifier, nonce))

    def seal(self, record: bytes, owner: str) -> bytes:
        """`record` with a tag that only members can make, bound to `owner`."""
        return record + self._mac(b"record", owner.encode(), record)[:_TAG_LEN]

    def unseal(self, sealed: bytes, owner: str) -> bytes | None:
        """The record that `seal` wrapped for this owner, or None where the tag is wrong."""
        record, tag = sealed[:-_TAG_LEN], sealed[-_TAG_LEN:]
        expected = self._mac(b"record", owner.encode(), record)[:_TAG_LEN]
        return record if hmac.compare_digest(tag, expected) else None

    def _mac(self, *parts: bytes) -> bytes:
        # Lengths go in too: otherwise ("ab", "c") and ("a", "bc") would have one tag.
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.new(self.secret, message, hashlib.sha256).digest()
