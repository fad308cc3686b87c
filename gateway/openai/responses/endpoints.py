"""The paths of OpenAI's Responses API (https://platform.openai.com/docs/api-reference/responses)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from swarm.quoting import quoted

from ...answer import Work
from ...body import Body, convert
from ...endpoint import Call, Endpoint, whole
from ...observation import note
from ...refusals import Reason, Refusal
from ...sse import EventStream
from ..dialect import OpenAIDialect
from .answer import EVENTS, Deleted, InputTokens, ItemList, Response, StreamEvent
from .body import InputRequest, ResponseRequest
from .items import Item, Items, Lookup, listed, read_items
from .listing import Page, listing
from .request import ask, begun, check, scored, talk
from .store import Kept, Store
from .tools import Tools, read_tools
from .truncation import newest
from .writer import Writer


class ResponsesDialect(OpenAIDialect):
    """What a conversation is called here is `input`."""

    name = "openai-responses"

    def refuse(self, refusal: Refusal) -> dict[str, Any]:
        """See `Dialect.refuse`."""
        told = super().refuse(refusal)
        if refusal.param == "messages":
            told["error"]["param"] = "input"
        return told


DIALECT = ResponsesDialect()


class NoQuery(Struct, forbid_unknown_fields=True, frozen=True):
    """There is nothing to be said."""


class Retrieval(Struct, forbid_unknown_fields=True, frozen=True):
    """A response that is kept is told as a whole."""

    stream: Literal["false"] = "false"


def endpoints(store: Store | None = None) -> tuple[Endpoint, ...]:
    """All of them, over one store of responses."""
    responses = _Responses(Store() if store is None else store)
    path = "/v1/responses"
    # What counts tokens is no response, and is asked in other ways.
    one = f"{path}/{{response_id:(?!input_tokens$)[^/]+}}"
    return (
        Endpoint(
            "POST",
            path,
            "Respond to an input",
            DIALECT,
            responses.create,
            body=ResponseRequest,
            answer=Response,
            events=EVENTS,
        ),
        Endpoint(
            "POST",
            f"{path}/input_tokens",
            "Count the tokens of an input",
            DIALECT,
            responses.count,
            body=InputRequest,
            answer=InputTokens,
        ),
        Endpoint(
            "GET", one, "A response that is kept", DIALECT, responses.retrieve, answer=Response
        ),
        Endpoint("DELETE", one, "Keep it no longer", DIALECT, responses.delete, answer=Deleted),
        Endpoint(
            "GET",
            f"{one}/input_items",
            "The items that it was made from",
            DIALECT,
            responses.list_items,
            answer=ItemList,
        ),
    )


@dataclass(frozen=True)
class _Responses:
    store: Store

    async def create(self, call: Call) -> web.StreamResponse:
        body: ResponseRequest = call.body
        check(body)
        tools, items = await self._understood(call)
        asked = await asyncio.to_thread(ask, body, tools, items.items)
        writer = Writer(
            begun(body, tools, items), scored=scored(body), obfuscating=_is_obfuscating(body)
        )
        async with call.answerer.answering(asked, call.caller) as answer:
            if body.stream:
                return await self._stream(call, writer, items, answer.work)
            writer.begin()
            async for event in answer.work.events():
                writer.push(event)
            writer.end(answer.work.usage)
        self._keep(call, writer.response, items)
        return whole(writer.response)

    async def _stream(
        self, call: Call, writer: Writer, items: Items, work: Work
    ) -> web.StreamResponse:
        async with EventStream(call.request, DIALECT) as stream:
            await _send(stream, writer.begin())
            try:
                async for event in work.events():
                    await _send(stream, writer.push(event))
            except Refusal as refusal:
                last = writer.fail(note(call.request, refusal), work.usage)
            else:
                last = writer.end(work.usage)
                self._keep(call, writer.response, items)
            await _send(stream, [last])
        return stream.response

    async def count(self, call: Call) -> web.Response:
        body: InputRequest = call.body
        tools, items = await self._understood(call)
        prompt = await asyncio.to_thread(talk, body, tools, items.items)
        return whole(InputTokens(await call.answerer.count(body.model, prompt)))

    async def retrieve(self, call: Call) -> web.Response:
        _query(call, Retrieval)
        return web.Response(body=self._kept(call).response, content_type="application/json")

    async def delete(self, call: Call) -> web.Response:
        _query(call, NoQuery)
        self._kept(call)
        self.store.forget(call.caller.owner, _name(call))
        return whole(Deleted(_name(call)))

    async def list_items(self, call: Call) -> web.Response:
        page = _query(call, Page)
        return whole(listing(self._kept(call).inputs(), page))

    async def _understood(self, call: Call) -> tuple[Tools, Items]:
        """The tools, and all items that the model is given, those of earlier responses first.

        Schemas and items may be many: what takes more than a moment is not done on the event loop.
        """
        body: InputRequest = call.body
        earlier = self._earlier(call, body.previous_response_id)
        find = self.store.item(call.caller.owner)
        tools = await asyncio.to_thread(read_tools, body.tools or ())
        items = await asyncio.to_thread(_read_all, earlier, body, find)
        if body.truncation == "auto" and items.items:
            return tools, replace(items, items=await _truncated(call, tools, items.items))
        return tools, items

    def _earlier(self, call: Call, name: str | None) -> Kept | None:
        if name is None:
            return None
        kept = self.store.find(call.caller.owner, name)
        if kept is None:
            message = f"Previous response with id {quoted(name)} not found."
            raise Refusal(Reason.INVALID, message, param="previous_response_id")
        return kept

    def _keep(self, call: Call, response: Response, items: Items) -> None:
        if response.store:
            raw = msgspec.json.encode([listed(item) for item in items.items])
            ids = frozenset(each.id for each in (*items.items, *response.output) if each.id)
            kept = Kept(msgspec.json.encode(response), raw, ids)
            self.store.keep(call.caller.owner, response.id, kept)

    def _kept(self, call: Call) -> Kept:
        kept = self.store.find(call.caller.owner, _name(call))
        if kept is None:
            raise Refusal(Reason.NOT_FOUND, f"Response with id {quoted(_name(call))} not found.")
        return kept


def _read_all(earlier: Kept | None, body: InputRequest, find: Lookup) -> Items:
    before = read_items(earlier.context(), find).items if earlier else ()
    given = read_items(body.input or (), find)
    return replace(given, items=(*before, *given.items))


async def _truncated(call: Call, tools: Tools, items: Sequence[Item]) -> tuple[Item, ...]:
    body: InputRequest = call.body
    cards = await call.answerer.models()
    room = next((card.context_length for card in cards if card.name == body.model), 0)
    if not room:
        return tuple(items)
    reply = (isinstance(body, ResponseRequest) and body.max_output_tokens) or 1

    async def fits(some: Sequence[Item]) -> bool:
        num_prompt = await call.answerer.count(body.model, talk(body, tools, some))
        return num_prompt + reply <= room

    return await newest(items, fits)


def _is_obfuscating(body: ResponseRequest) -> bool:
    if not body.stream:
        return False
    return body.stream_options is None or body.stream_options.include_obfuscation


async def _send(stream: EventStream, events: Iterable[StreamEvent]) -> None:
    for event in events:
        await stream.send(event, event=str(event.__struct_config__.tag))


def _query(call: Call, kind: type[Body]) -> Body:
    query = {name.removesuffix("[]"): value for name, value in call.request.query.items()}
    return convert(query, kind, strict=False)


def _name(call: Call) -> str:
    return call.request.match_info["response_id"]
