"""The page that people look at in a browser: its files, as any of our HTTP servers serves them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Literal

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing comes from elsewhere, nothing is written into the page, and nobody frames it."""

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every file of the page."""

_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".md": "text/plain",
}


Tab = Literal["chat", "swarm", "group"]


class About(msgspec.Struct, frozen=True):
    """What `GET /page/about` tells the page of its server.

    Its tabs in their order, whether one must show a key to do anything, and the group's name as far
    as it has one.
    """

    tabs: tuple[Tab, ...]
    key: Literal["none", "needed"]
    version: str
    group: str = ""


@dataclass(frozen=True)
class PageFile:
    """A file in memory, with the tag that changes when it does."""

    content: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, name: str, content: bytes) -> PageFile:
        """A file by its name, which says its type."""
        kind = _TYPES[name[name.rindex(".") :]]
        return cls(content, kind, hashlib.sha256(content).hexdigest()[:32])


def page_files() -> dict[str, PageFile]:
    """All files by their paths: the page itself is `/`, what it loads is below `/page/`.

    Only what is listed here is ever served, so that no path leads anywhere else.
    """
    found = dict(_walk(resources.files(__package__) / "static", "/page/"))
    found["/"] = found.pop("/page/index.html")
    return found


def add_pages(app: web.Application, about: Callable[[], About]) -> list[web.AbstractResource]:
    """Serves the page at `/`, its files, and `/page/about`; these are the resources.

    None of them tells a secret, so none needs a key.
    """

    async def tell(request: web.Request) -> web.Response:
        body = msgspec.json.encode(about())
        headers = HEADERS | {"Cache-Control": "no-store"}
        return web.Response(body=body, content_type="application/json", headers=headers)

    routes = [app.router.add_get("/page/about", tell)]
    for path, file in page_files().items():
        routes.append(app.router.add_get(path, _handler(file)))
    return [route.resource for route in routes if route.resource is not None]


def _handler(file: PageFile) -> Handler:
    # Asked for each time, and answered with 304 as long as nothing has changed: a new version is
    # whole at once, without names that change.
    headers = HEADERS | {"Cache-Control": "no-cache"}

    async def handle(request: web.Request) -> web.Response:
        tags = request.if_none_match or ()
        same = any(tag.value in (file.tag, "*") for tag in tags)
        response = web.Response(status=304 if same else 200, headers=headers)
        response.etag = file.tag
        if not same:
            response.body = file.content
            response.content_type = file.media_type
            response.charset = "utf-8"
        return response

    return handle


def _walk(folder: Traversable, path: str) -> list[tuple[str, PageFile]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            found += _walk(entry, f"{path}{entry.name}/")
        elif entry.name[entry.name.rfind(".") :] in _TYPES:
            found.append((path + entry.name, PageFile.of(entry.name, entry.read_bytes())))
    return found
