"""Members with made-up ids, whose keys are the same in every run: what failed once fails again."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarm.transport.memory import Network


class Actors(Network):
    """A network in which everybody's key follows from the name."""

    def key(self, peer_id: str) -> Ed25519PrivateKey:
        """The key of a member, or of whoever calls itself so."""
        seed = hashlib.sha256(peer_id.encode(errors="surrogatepass")).digest()
        return self._keys.setdefault(peer_id, Ed25519PrivateKey.from_private_bytes(seed))
