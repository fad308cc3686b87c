"""Where a request came from: what protects a program from the pages that a browser shows.

A page's requests name its origin. Whoever owns a page's name may have it lead to this machine, so
that the page's own origin is asked (DNS rebinding): the name stays in `Host`. Of what a page only
loads, as a picture, browsers tell no origin, but that it is another site's (`Sec-Fetch-Site`,
https://www.w3.org/TR/fetch-metadata/); another port of this machine is another origin, too.
"""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

from .config import is_loopback


def is_named_here(request: web.Request, names: Collection[str]) -> bool:
    """Whether the request calls its host one of these names (in lower case), or a loopback one."""
    # Not `request.host`, which asks the network for our own name where a request has none.
    host = request.headers.get("Host", "")
    name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    return name.lower() in names or is_loopback(name)


def is_our_page(request: web.Request) -> bool:
    """Whether the page that asks is our own: of this scheme, host and port.

    True where no page asks, as far as one can tell, and where somebody follows a link to us. Beside
    it somebody checks the host, or a key.
    """
    headers = request.headers
    if (origin := headers.get("Origin")) is not None:
        return origin == f"{request.scheme}://{headers.get('Host', '')}"
    if headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return True
    return headers.get("Sec-Fetch-Mode") == "navigate" and (
        headers.get("Sec-Fetch-Dest") == "document"
    )
