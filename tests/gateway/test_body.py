"""Bodies are what their types say, or are refused by the name of the field at fault."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest

from swarm.gateway.body import convert, parse
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
