"""Who is asked, the swarm or its fallback: only where the swarm cannot begin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from swarm.client import SamplingConfig
from swarm.gateway.answer import Answer, Caller, ModelCard, Source
from swarm.gateway.ask import Ask, Text
from swarm.gateway.events import Ended, Ending, Said
from swarm.gateway.fallback import FallbackConfig
from swarm.gateway.hybrid import Hybrid
from swarm.gateway.refusals import Reason, Refusal

ANN = Caller("ann")
EVENTS = (Said(0, "x"), Ended(0, Ending.END))


def asks(model: str = "tiny") -> Ask:
    return Ask(model, Text("a"), SamplingConfig())


@dataclass
class Other:
    """A fallback that answers from memory."""

    config: FallbackConfig = field(default_factory=lambda: FallbackConfig("http://localhost"))
    asked: list[str] = field(default_factory=list)
    refusal: Refusal | None = None

    @asynccontextmanager
    async def answering(self, ask: Ask, caller: Caller) -> AsyncIterator[Answer]:
        self.asked.append(ask.model)
        if self.refusal is not None:
            raise self.refusal
        work: Any = None
        yield Answer(ask.model, Source.FALLBACK, work)


@pytest.fixture
def other() -> Other:
    return Other()


@pytest.fixture
def hybrid(scripted: Any, other: Any) -> Hybrid:
    scripted.events = EVENTS
    return Hybrid(scripted, other)


async def _source(hybrid: Hybrid, ask: Ask | None = None) -> Source:
    async with hybrid.answering(ask or asks(), ANN) as answer:
        return answer.source


async def test_the_swarm_answers_where_it_can(hybrid: Hybrid, other: Other) -> None:
    assert await _source(hybrid) is Source.SWARM and not other.asked


async def test_without_a_route_the_fallback_does(
    hybrid: Hybrid, scripted: Any, other: Other
) -> None:
    scripted.events = (Refusal(Reason.NO_ROUTE, "a gap"),)
    assert await _source(hybrid) is Source.FALLBACK and other.asked == ["tiny"]


async def test_a_known_gap_is_not_waited_for(
    hybrid: Hybrid, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models() -> tuple[ModelCard, ...]:
        return (ModelCard("tiny", 0, 0, has_route=False),)

    monkeypatch.setattr(scripted, "models", models)
    assert await _source(hybrid) is Source.FALLBACK and not scripted.asks
    assert (await hybrid.models())[0].has_route is False


@pytest.mark.parametrize("reason", [each for each in Reason if each is not Reason.NO_ROUTE])
async def test_other_refusals_leave_the_prompt_in_the_group(
    hybrid: Hybrid, scripted: Any, other: Other, reason: Reason
) -> None:
    scripted.events = (Refusal(reason, "no"),)
    with pytest.raises(Refusal) as refused:
        await _source(hybrid)
    assert refused.value.reason is reason and not other.asked


async def test_a_model_that_the_swarm_does_not_have_is_nobodys(
    hybrid: Hybrid, other: Other
) -> None:
    with pytest.raises(Refusal) as refused:
        await _source(hybrid, asks("gpt"))
    assert refused.value.reason is Reason.UNKNOWN_MODEL and not other.asked


async def test_a_full_queue_is_waited_for_or_not_as_the_user_likes(scripted: Any) -> None:
    scripted.events = (Refusal(Reason.BUSY, "full"),)
    eager = Other(FallbackConfig("http://localhost", when_busy=True))
    assert await _source(Hybrid(scripted, eager)) is Source.FALLBACK  # type: ignore[arg-type]


async def test_what_has_begun_is_not_handed_over(
    hybrid: Hybrid, scripted: Any, other: Other
) -> None:
    scripted.events = (Said(0, "x"), Refusal(Reason.NO_ROUTE, "a gap"))
    with pytest.raises(Refusal):
        async with hybrid.answering(asks(), ANN) as answer:
            async for _ in answer.work.events():
                pass
    assert not other.asked and scripted.num_ended == 1


async def test_the_fallbacks_refusal_is_the_answer(
    hybrid: Hybrid, scripted: Any, other: Other
) -> None:
    scripted.events = (Refusal(Reason.NO_ROUTE, "a gap"),)
    other.refusal = Refusal(Reason.BUSY, "too much", retry_after=3)
    with pytest.raises(Refusal, match="too much"):
        await _source(hybrid)
    assert other.asked == ["tiny"]


async def test_tokens_are_counted_here(hybrid: Hybrid) -> None:
    assert await hybrid.count("tiny", Text("a")) == 7
