"""What Prometheus is told of a gateway: no label that anybody can make up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from swarm.client import Energy, HopTiming, Reply, Timing
from swarm.gateway.answer import Answer, Source
from swarm.gateway.events import Usage
from swarm.gateway.metrics import Metrics
from swarm.gateway.refusals import Reason, Refusal
from swarm.gateway.trace import Trace
from swarm.metrics.labels import OTHER, Bounded


class _Work:
    usage = Usage(5, 2, 3)


def _trace(model: str = "tiny", peer: str = "ann", source: Source = Source.SWARM) -> Trace:
    reply = Reply([1], ids=[2, 3, 4])
    hop = HopTiming("id", peer, 0, 4, 2, 0.01, 0.02, 0.03)
    reply.timing = Timing({("id", 0, 4): hop}, 2, 0.01)
    work: Any = _Work()
    answer = Answer(model, source, work, 0.5, (reply,) if source is Source.SWARM else ())
    return Trace("/v1/chat/completions", 0.0, asked=model, answers=[answer], begun=1.0, ended=2.0)


def _families(metrics: Metrics) -> dict[str, Any]:
    text = metrics.text().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.watch_load(lambda: (3, 4))
    metrics.watch_traffic(lambda: (10, 20))
    metrics.note(_trace(), 200)
    metrics.note(_trace(source=Source.FALLBACK), 200)
    metrics.note(Trace("", 0.0, refusal=Refusal(Reason.BUSY, "full")), 429)
    return metrics


def test_what_is_now_is_asked_when_it_is_told(metrics: Metrics) -> None:
    families = _families(metrics)
    values = {name: [s.value for s in family.samples] for name, family in families.items()}
    assert values["homeswarm_answers_running"] == [3]
    assert values["homeswarm_requests_waiting"] == [4]
    assert values["homeswarm_sent_bytes"] == [10] and values["homeswarm_received_bytes"] == [20]


def test_labels_are_few(metrics: Metrics) -> None:
    for number in range(300):
        metrics.note(_trace(model=f"model-{number}", peer=f"peer-{number}"), 200)
    for name, family in _families(metrics).items():
        for label in ("model", "peer"):
            values = {s.labels[label] for s in family.samples if label in s.labels}
            assert len(values) <= 66, name
    steps = _families(metrics)["homeswarm_hop_steps"].samples
    assert max(sample.value for sample in steps if sample.labels["peer"] == OTHER) > 200


def test_a_label_that_was_known_stays() -> None:
    bounded = Bounded(1)
    assert [bounded.label(value) for value in ("a", "b", "a")] == ["a", OTHER, "a"]


def test_two_gateways_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.note(_trace(), 200)
    assert _families(one)["homeswarm_decode_steps"].samples[0].value == 0
    assert not _families(other)["homeswarm_requests"].samples


def test_energy_is_told_with_its_source(metrics: Metrics) -> None:
    trace = _trace()
    (reply,) = trace.replies
    reply.energy = Energy(2.0, "estimate")
    metrics.note(trace, 200)
    families = _families(metrics)
    for name, value in (("answer_joules", 6.0), ("metered_tokens", 3.0)):
        (sample,) = families[f"homeswarm_{name}"].samples
        assert (sample.value, sample.labels["source"]) == (value, "estimate")
    told = json.loads(trace.as_json())
    assert (told["joules_per_token"], told["energy"]) == (2.0, "estimate")
