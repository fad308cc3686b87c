"""Bodies are what their types say, or are refused by the name of the field at fault."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from swarm.gateway.body import convert, parse, read_body
from swarm.gateway.refusals import Reason, Refusal


class Round(msgspec.Struct, tag="round", forbid_unknown_fields=True):
    radius: int
    colour: None = None


class Square(msgspec.Struct, tag="square", forbid_unknown_fields=True):
    side: int


class Drawing(msgspec.Struct, forbid_unknown_fields=True):
    shapes: list[Round | Square] = []
    labels: dict[Annotated[str, msgspec.Meta(max_length=3)], int] = {}


REFUSED = {
    '{"hue": 1}': (Reason.UNSUPPORTED, "hue"),
    '{"shapes": [{"type": "round", "radius": 1, "hue": 1}]}': (
        Reason.UNSUPPORTED,
        "shapes[0].hue",
    ),
    '{"shapes": [{"type": "star"}]}': (Reason.UNSUPPORTED, "shapes[0].type"),
    '{"shapes": [{"type": "round", "radius": 1, "colour": "red"}]}': (
        Reason.UNSUPPORTED,
        "shapes[0].colour",
    ),
    '{"shapes": [{"type": "round", "radius": "1"}]}': (Reason.INVALID, "shapes[0].radius"),
    '{"shapes": [{"radius": 1}]}': (Reason.INVALID, "shapes[0].type"),
    '{"shapes": [{"type": "square"}]}': (Reason.INVALID, "shapes[0].side"),
    '{"labels": {"long": 1}}': (Reason.INVALID, "labels"),
    '{"labels": {"a": "1"}}': (Reason.INVALID, "labels[...]"),
    "[]": (Reason.INVALID, None),
    "{": (Reason.INVALID, None),
    "[" * 100_000: (Reason.INVALID, None),
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_names_the_field(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse(text.encode(), Drawing)
    assert (refused.value.reason, refused.value.param) == REFUSED[text]


def test_a_value_that_is_not_supported_is_named_too() -> None:
    with pytest.raises(Refusal, match="'star'"):
        parse(b'{"shapes": [{"type": "star"}]}', Drawing)


@pytest.mark.parametrize(
    "body",
    [{"x" * 100_000: 1}, {"shapes": [{"type": "x" * 100_000}]}, {"shapes": "x`" * 50_000}],
)
def test_a_refusal_is_no_longer_than_a_person_reads(body: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        parse(msgspec.json.encode(body), Drawing)
    assert len(str(refused.value)) < 2000
    assert len(refused.value.param or "") < 1000


def test_what_was_decoded_before_is_refused_by_its_place() -> None:
    drawing = convert({"shapes": [{"type": "square", "side": 2}]}, Drawing, "page")
    assert drawing.shapes == [Square(2)]
    with pytest.raises(Refusal) as refused:
        convert({"shapes": [{"type": "square"}]}, Drawing, "pages[3]")
    assert refused.value.param == "pages[3].shapes[0].side"


def test_null_stands_for_what_is_left_out() -> None:
    drawing = parse(b'{"shapes": [{"type": "round", "radius": 1, "colour": null}]}', Drawing)
    assert drawing.shapes == [Round(1)]


class Hinted(msgspec.Struct, forbid_unknown_fields=True):
    HINTS: ClassVar[dict[str, str]] = {"hue": "use 'tint'", "star": "draw it", "blue": "it is sad"}

    shapes: list[Round | Square] = []
    tint: Literal["red"] = "red"
    star: None = None


@pytest.mark.parametrize(
    "text, reason, said",
    [
        ('{"hue": 1}', Reason.UNSUPPORTED, "'hue' is not supported: use 'tint'"),
        ('{"star": 1}', Reason.UNSUPPORTED, "'star' is not supported: draw it"),
        ('{"shapes": [{"type": "star"}]}', Reason.UNSUPPORTED, "not supported: draw it"),
        ('{"tint": "blue"}', Reason.UNSUPPORTED, "'tint': 'blue' is not supported: it is sad"),
        ('{"tint": "green"}', Reason.INVALID, "'tint': 'green' is not supported"),
        ('{"tint": null}', Reason.INVALID, "tint"),
    ],
)
def test_a_refusal_says_what_to_do_instead(text: str, reason: Reason, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse(text.encode(), Hinted)
    assert refused.value.reason is reason
    assert said in str(refused.value)


class Anything(msgspec.Struct):
    text: str = ""
    value: Any = None


async def _posted(raw: bytes) -> Anything:
    """What becomes of a body that is sent."""
    found: list[Anything] = []

    async def handle(request: web.Request) -> web.Response:
        found.append(await read_body(request, Anything, 10.0))
        return web.Response()

    app = web.Application(client_max_size=8 << 20)
    refusals: list[Refusal] = []
    app.router.add_post("/", _raising(handle, refusals))
    async with TestClient(TestServer(app)) as client:
        await client.post("/", data=raw, headers={"Content-Type": "application/json"})
    if refusals:
        raise refusals[0]
    return found[0]


def _raising(handle: Any, refusals: list[Refusal]) -> Any:
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handle(request)
        except Refusal as refusal:
            refusals.append(refusal)
            return web.Response()

    return answer


async def test_a_body_of_countless_parts_is_refused_before_it_is_decoded() -> None:
    many = b'{"value":[' + b",".join([b"[0]"] * 200_000) + b"]}"
    with pytest.raises(Refusal) as refused:
        await _posted(many)
    assert refused.value.reason is Reason.TOO_LARGE


async def test_brackets_in_a_text_are_no_parts() -> None:
    text = '[{"\\' * 100_000
    raw = msgspec.json.encode({"text": text, "value": [1, {}]})
    assert await _posted(raw) == Anything(text, [1, {}])


@pytest.mark.parametrize("end", [b"", b"\\", b'\\"'])
async def test_a_text_without_an_end_is_looked_at_once(end: bytes) -> None:
    raw = b'{"text":"' + b'[\\"' * 300_000 + end
    with pytest.raises(Refusal) as refused:
        await asyncio.wait_for(_posted(raw), 60)
    assert refused.value.reason is Reason.INVALID
