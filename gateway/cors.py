"""Web pages that may ask (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

_DAY = "86400"


def add_cors(request: web.Request, response: web.StreamResponse, origins: Collection[str]) -> None:
    """Tells a browser that the page may see this answer, if it is of one of these origins.

    No cookies are involved: a page shows its key itself.
    """
    if not origins:
        return
    response.headers["Vary"] = "Origin"
    origin = request.headers.get("Origin")
    if origin is None or origin not in origins:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = "*"
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return
    response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
    response.headers["Access-Control-Max-Age"] = _DAY
    if wanted := request.headers.get("Access-Control-Request-Headers"):
        response.headers["Access-Control-Allow-Headers"] = wanted
    if "Access-Control-Request-Private-Network" in request.headers:
        response.headers["Access-Control-Allow-Private-Network"] = "true"
