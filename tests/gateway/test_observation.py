"""What is told of requests: headers, the log's line, metrics; by whom they were answered."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from swarm.client import HopTiming, Reply, RouteChange, Timing
from swarm.client.route import Hop
from swarm.gateway.answer import Source
from swarm.gateway.ask import Ask, Text
from swarm.gateway.endpoint import Call, Endpoint
from swarm.gateway.events import Ended, Ending, Said, Usage
from swarm.gateway.metrics_endpoint import ENDPOINTS
from swarm.gateway.observation import ANSWERED_BY, TRACE
from swarm.gateway.openai.dialect import OPENAI
from swarm.gateway.refusals import Reason, Refusal
from swarm.gateway.sse import EventStream

SECRET = "what was asked"
EVENTS = (Said(0, "alpha "), Said(0, "two"), Ended(0, Ending.END))


async def _whole(call: Call) -> web.StreamResponse:
    async with call.answerer.answering(_ask(call), call.caller) as answer:
        said = [event.text async for event in answer.work.events() if isinstance(event, Said)]
    return web.json_response({"text": "".join(said)})


async def _stream(call: Call) -> web.StreamResponse:
    async with (
        call.answerer.answering(_ask(call), call.caller) as answer,
        EventStream(call.request, OPENAI) as stream,
    ):
        async for event in answer.work.events():
            if isinstance(event, Said):
                await stream.send(event.text)
    return stream.response


def _ask(call: Call) -> Ask:
    sampling: Any = None
    return Ask(call.request.query.get("model", "tiny"), Text(SECRET), sampling)


@pytest.fixture
async def client(serve: Any) -> AsyncIterator[Any]:
    endpoints = (
        Endpoint("GET", "/whole/{any}", "all at once", OPENAI, _whole),
        Endpoint("GET", "/stream", "in parts", OPENAI, _stream),
        *ENDPOINTS,
    )
    async with serve(endpoints) as client:
        yield client


@pytest.fixture
def replied(scripted: Any) -> Reply:
    """A reply that went through two hops."""
    hops = {
        ("id-a", 0, 2): HopTiming("id-a", "ann", 0, 2, 2, 0.002, 0.020, 0.004),
        ("id-b", 2, 4): HopTiming("id-b", "bob\nodd", 2, 4, 2, 0.0, 0.010, 0.002),
    }
    reply = Reply([1, 2, 3], ids=[4, 5, 6], route=(Hop("id-a", 0, 2), Hop("id-b", 2, 4)))
    reply.prefill_seconds, reply.num_recoveries, reply.num_handovers = 0.25, 2, 1
    reply.num_steps, reply.num_drafted, reply.num_accepted = 2, 5, 3
    reply.timing = Timing(hops, 2, back=0.002, head=0.008, sampling=0.002)
    scripted.events, scripted.usage = EVENTS, Usage(7, 2, 3)
    scripted.replies, scripted.queued = (reply,), 0.5
    return reply


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.put_nowait(record.getMessage())


@pytest.fixture
def done(caplog: pytest.LogCaptureFixture) -> Iterator[asyncio.Queue[str]]:
    """The lines of the log, as they come."""
    caplog.set_level(logging.INFO, "swarm.gateway")
    logger, heard = logging.getLogger("swarm.gateway.observation"), _Heard()
    logger.addHandler(heard)
    yield heard.lines
    logger.removeHandler(heard)


async def test_who_has_answered_is_always_said(client: Any, scripted: Any) -> None:
    scripted.events = EVENTS
    for source in Source:
        scripted.source = source
        for path in ("/whole/x", "/stream"):
            answer = await client.get(path)
            assert answer.headers[ANSWERED_BY] == source
            assert TRACE not in answer.headers
            assert "trace" not in await answer.text()
    assert ANSWERED_BY not in (await client.get("/whole/x?model=none")).headers


async def test_a_trace_tells_where_the_time_went(client: Any, replied: Reply) -> None:
    answer = await client.get("/whole/x", headers={TRACE: "1"})
    told = json.loads(answer.headers[TRACE])
    assert (told["by"], told["model"], told["queue_ms"]) == ("swarm", "tiny", 500)
    assert (told["prompt"], told["cached"], told["completion"]) == (7, 2, 3)
    assert (told["prefill_ms"], told["recoveries"], told["handovers"]) == (250, 2, 1)
    assert told["speculation"] == {"steps": 2, "drafted": 5, "accepted": 3}
    ann, bob = told["hops"]
    assert ann == {
        "peer": "ann",
        "blocks": [0, 2],
        "steps": 2,
        "queue_ms": 1,
        "compute_ms": 10,
        "wire_ms": 2,
        "share": 0.52,
    }
    assert (bob["peer"], bob["share"]) == ("bob\nodd", 0.24)
    assert sum(told["shares"].values()) == pytest.approx(1, abs=0.01)
    assert told["shares"]["wire"] == 0.16
    assert told["total_ms"] >= told["first_token_ms"] > 0
    assert "queue;dur=500.0, prefill;dur=250.0" in answer.headers["Server-Timing"]


async def test_a_streams_trace_is_its_last_line(client: Any, replied: Reply) -> None:
    answer = await client.get("/stream", headers={TRACE: "1"})
    *_, last = (await answer.text()).strip().splitlines()
    assert last.startswith(": trace ")
    assert json.loads(last.removeprefix(": trace "))["hops"][0]["peer"] == "ann"
    assert TRACE not in answer.headers and "queue;dur=500.0" in answer.headers["Server-Timing"]


async def test_a_stream_tells_changes_of_the_route_as_they_come(
    client: Any, scripted: Any, replied: Reply
) -> None:
    class Mended(list[Said]):
        def __iter__(self) -> Iterator[Said]:
            yield self[0]
            replied.timing.changes.append(RouteChange("recovery", 41, ("ann",), ("cyd",)))
            yield from self[1:]

    scripted.events = Mended([Said(0, "alpha"), Said(0, "two"), Said(0, "three")])
    answer = await client.get("/stream", headers={TRACE: "1"})
    first, change, second, third, trace = (await answer.text()).strip().split("\n\n")
    assert (first, second, third) == ("data: alpha", "data: two", "data: three")
    told = json.loads(change.removeprefix(": change "))
    assert told == {"kind": "recovery", "tokens": 41, "gone": ["ann"], "came": ["cyd"]}
    assert json.loads(trace.removeprefix(": trace "))["changes"] == [told]
    assert ": change" not in await (await client.get("/stream")).text()


async def test_a_trace_fits_a_header_line(client: Any, replied: Reply) -> None:
    for i in range(200):
        key = (f"id-{i}", 4, 5)
        replied.timing.hops[key] = HopTiming(*key[:1], "ü" * 64, 4, 5, 1)
    told = (await client.get("/whole/x", headers={TRACE: "1"})).headers[TRACE]
    assert len(told) <= 6000
    assert len(json.loads(told)["hops"]) + json.loads(told)["hops_left_out"] == 202


async def test_the_log_has_one_line_for_each_request(
    client: Any, replied: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "swarm.gateway")
    await (await client.get("/stream")).text()
    await client.get("/whole/x?model=none%0Amade=up")
    done, refused = (r.getMessage() for r in caplog.records if "request_done" in r.getMessage())
    fields = dict(pair.split("=", 1) for pair in done.split()[1:])
    assert fields["endpoint"] == "/stream" and fields["status"] == "200"
    assert (fields["by"], fields["model"], fields["key"]) == ("swarm", "tiny", "local")
    assert (fields["recoveries"], fields["drafted"], fields["accepted"]) == ("2", "5", "3")
    assert fields["route"] == "ann:0-2,bob_odd:2-4"
    assert fields["request"].startswith("req_")
    assert "status=404 by=nobody" in refused and "refused=unknown_model" in refused
    assert SECRET not in caplog.text and "alpha" not in caplog.text and "made" not in refused


async def test_metrics_count_what_has_happened(client: Any, scripted: Any, replied: Reply) -> None:
    await client.get("/whole/some")
    await client.get("/whole/other")
    await client.get("/whole/x?model=none")
    scripted.source, scripted.replies = Source.FALLBACK, ()
    await (await client.get("/stream")).text()
    await client.get("/nowhere/at/all")
    told = await _metrics(client)
    requests = {key: value for key, value in told.items() if key[0] == "homeswarm_requests_total"}
    assert requests == {
        _key("homeswarm_requests_total", endpoint="/whole/{any}", status="200", model="tiny"): 2,
        _key("homeswarm_requests_total", endpoint="/whole/{any}", status="404", model=""): 1,
        _key("homeswarm_requests_total", endpoint="/stream", status="200", model="tiny"): 1,
        _key("homeswarm_requests_total", endpoint="", status="404", model=""): 1,
    }
    assert told[_key("homeswarm_fallback_answers_total", model="tiny")] == 1
    assert told[_key("homeswarm_refusals_total", reason="unknown_model")] == 1
    assert told[_key("homeswarm_prompt_tokens_total", model="tiny")] == 21
    assert told[_key("homeswarm_cached_tokens_total", model="tiny")] == 6
    assert told[_key("homeswarm_hop_steps_total", peer="ann")] == 4
    compute = told[_key("homeswarm_hop_seconds_total", peer="ann", part="compute")]
    assert compute == pytest.approx(0.04)
    assert told[_key("homeswarm_recoveries_total")] == 4
    assert told[_key("homeswarm_time_to_first_token_seconds_count", model="tiny")] == 3
    assert told[_key("homeswarm_queue_seconds_count", model="tiny")] == 2


async def test_a_refusal_in_midstream_is_counted(client: Any, scripted: Any) -> None:
    scripted.events = (Said(0, "alpha"), Refusal(Reason.NO_ROUTE, "a gap"))
    await (await client.get("/stream")).text()
    assert (await _metrics(client))[_key("homeswarm_refusals_total", reason="no_route")] == 1


async def test_who_hangs_up_is_counted_as_gone(client: Any, scripted: Any, done: Any) -> None:
    scripted.events = [Said(0, "x" * 100_000)] * 1000
    answer = await client.get("/stream")
    answer.close()
    async with asyncio.timeout(60):
        assert "status=499" in await done.get()


def _key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def _metrics(client: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        _key(sample.name, **sample.labels): sample.value
        for family in text_string_to_metric_families(await answer.text())
        for sample in family.samples
    }
