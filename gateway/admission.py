"""Who may come in: programs with a key; where none is needed, this machine's, but no web pages."""

from __future__ import annotations

from aiohttp import web

from swarm.web.config import is_loopback

from .answer import NOBODY, Caller
from .config import GatewayConfig
from .keys import Keys
from .refusals import Reason, Refusal

LOCAL = Caller("local")
"""A program of this machine, where no key is needed."""


class Admission:
    """Decides by a request's headers alone."""

    def __init__(self, config: GatewayConfig, keys: Keys) -> None:
        self._hosts = {config.host, "localhost"}
        self._origins = frozenset(config.origins)
        self._keys = keys

    def caller(self, request: web.Request, *, open: bool = False) -> Caller:
        """Who asks; of what is `open`, also `NOBODY`. Raises `Refusal` if they may not."""
        if not self._keys.required:
            self._refuse_pages(request)
            return LOCAL
        key = _key(request)
        if key is not None and (known := self._keys.find(key)) is not None:
            return Caller(known.name, known.sha256)
        if open:
            return NOBODY
        if key is None:
            text = "a key is needed: send it as `Authorization: Bearer KEY`, or as `x-api-key`"
            raise Refusal(Reason.UNAUTHORIZED, text)
        raise Refusal(Reason.UNAUTHORIZED, "this key is not known here, or was revoked")

    def _refuse_pages(self, request: web.Request) -> None:
        """Without keys, what protects this machine from the pages that its browser shows.

        A page's requests name its origin. Whoever owns a page's name may have it lead to this
        machine, so that the page's own origin is asked (DNS rebinding): the name stays in `Host`.
        """
        # Not `request.host`, which asks the network for our own name where a request has none.
        if not self._is_ours(request.headers.get("Host", "")):
            text = f"no key is set, so only {' or '.join(sorted(self._hosts))} may be the host"
            raise Refusal(Reason.FORBIDDEN, text)
        origin = request.headers.get("Origin")
        if origin is None or origin in self._origins:
            return
        # Our own page's is where it came from: this scheme, host and port. The host is ours.
        if origin != f"{request.scheme}://{request.headers['Host']}":
            raise Refusal(Reason.FORBIDDEN, "web pages of this origin may not ask (see --cors)")

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
        return name.lower() in self._hosts or is_loopback(name)


def _key(request: web.Request) -> str | None:
    """The key that a request shows, as OpenAI's clients send it or as Anthropic's do."""
    if (key := request.headers.get("x-api-key")) is not None:
        return key.strip()
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None
