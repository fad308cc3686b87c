"""Who may come in: programs with a key; where none is needed, this machine's, but no web pages."""

from __future__ import annotations

from aiohttp import web

from swarm.web.origin import is_named_here, is_our_page

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
        """Without keys, what protects this machine from the pages that its browser shows."""
        if not is_named_here(request, self._hosts):
            text = f"no key is set, so only {' or '.join(sorted(self._hosts))} may be the host"
            raise Refusal(Reason.FORBIDDEN, text)
        if request.headers.get("Origin") not in self._origins and not is_our_page(request):
            raise Refusal(Reason.FORBIDDEN, "web pages of this origin may not ask (see --cors)")


def _key(request: web.Request) -> str | None:
    """The key that a request shows, as OpenAI's clients send it or as Anthropic's do."""
    if (key := request.headers.get("x-api-key")) is not None:
        return key.strip()
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None
