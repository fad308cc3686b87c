"""Bodies: what is wrong with them is said with the field, and in few words."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest

from swarm.gateway.body import parse
from swarm.gateway.refusals import Reason, Refusal


class _Part(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    size: Annotated[int, msgspec.Meta(ge=1)]
    parts: list[_Part] = []
    kind: Literal["this", "that"] = "this"
    absent: None = None


@pytest.mark.parametrize(
    ("raw", "reason", "param", "said"),
    [
        ('{"size": 1, "more": 2}', Reason.UNSUPPORTED, "more", "'more' is not supported"),
        ('{"size": 1, "absent": 2}', Reason.UNSUPPORTED, "absent", "'absent' is not supported"),
        ("{}", Reason.INVALID, "size", "'size' is missing"),
        (
            '{"size": 1, "parts": [{"type": "text"}]}',
            Reason.INVALID,
            "parts[0].text",
            "'parts[0].text' is missing",
        ),
        ('{"size": 0}', Reason.INVALID, "size", "'size': Expected `int` >= 1"),
        (
            '{"size": 1, "kind": "other"}',
            Reason.INVALID,
            "kind",
            "'kind': 'other' is not supported",
        ),
        (
            '{"size": 1, "parts": [{"type": "image"}]}',
            Reason.INVALID,
            "parts[0].type",
            "'parts[0].type': 'image' is not supported",
        ),
        ("[]", Reason.INVALID, None, "Expected `object`, got `array`"),
    ],
)
def test_a_refusal_names_the_field(raw: str, reason: Reason, param: str | None, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse(raw.encode(), _Body)
    assert (refused.value.reason, refused.value.param) == (reason, param)
    assert str(refused.value) == said


def test_null_stands_for_what_is_left_out() -> None:
    assert parse(b'{"size": 1, "absent": null}', _Body) == _Body(1)


@pytest.mark.parametrize("raw", ['{"size": 1, "%s": 1}', '{"size": 1, "kind": "%s"}'])
def test_a_long_mistake_is_not_repeated_in_full(raw: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse((raw % ("x" * 100_000)).encode(), _Body)
    assert len(str(refused.value)) + len(refused.value.param or "") < 2000


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b'{"size": 1e999}', b"[" * 100_000])
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(Refusal):
        parse(raw, _Body)
