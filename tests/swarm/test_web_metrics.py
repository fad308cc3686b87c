"""`/metrics` over HTTP: to whom it is told, and what the options say."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
import typer
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from swarm.cli._metrics import config
from swarm.errors import ConfigError
from swarm.metrics.buckets import Buckets
from swarm.metrics.families import histogram
from swarm.metrics.registry import new_registry, text
from swarm.web.door import Door
from swarm.web.metrics import MetricsConfig, serving


class Answers(Collector):
    """One number."""

    def collect(self) -> list[Metric]:
        return [GaugeMetricFamily("homeswarm_test", "A number.", 42)]


async def ask(
    key: str | None, shown: str | None, path: str = "/metrics", **other: str
) -> tuple[int, str]:
    """What is answered where `key` is needed and `shown` is, with `other` headers."""
    chosen = MetricsConfig(key=key)
    headers = other | ({} if shown is None else {"Authorization": f"Bearer {shown}"})
    with Door.opened(chosen, chosen) as door:
        async with serving(door, new_registry(Answers())), aiohttp.ClientSession() as session:
            async with session.get(door.url + path, headers=headers) as response:
                return response.status, await response.text()


async def test_prometheus_is_told_the_numbers() -> None:
    status, body = await ask(None, None)
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert status == 200
    assert families["homeswarm_test"].samples[0].value == 42
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6
    assert families["homeswarm_build_info"].samples[0].value == 1


@pytest.mark.parametrize("shown", [None, "wrong", "", "schlüssel"])
async def test_who_has_no_key_is_told_nothing(shown: str | None) -> None:
    status, body = await ask("right", shown)
    assert status == 401 and "42" not in body


async def test_a_key_that_is_no_text_is_a_wrong_one() -> None:
    chosen = MetricsConfig(key="right")
    with Door.opened(chosen, chosen) as door:
        async with serving(door, new_registry(Answers())):
            reader, writer = await asyncio.open_connection(*door.sockets[0].getsockname()[:2])
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\n\r\n")
            assert b" 401 " in await reader.readline()
            writer.close()


async def test_who_has_the_key_is() -> None:
    assert (await ask("right", "right"))[0] == 200


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://localhost:3000"}, {"Origin": "null"}]
)
async def test_web_pages_are_told_nothing(headers: dict[str, str]) -> None:
    status, body = await ask(None, None, **headers)
    assert status == 403 and "42" not in body
    assert (await ask("right", "right", **headers))[0] == 200, "who has the key is no such page"


async def test_there_is_nothing_else() -> None:
    assert (await ask(None, None, "/"))[0] == 404


def test_others_than_this_machine_need_a_key() -> None:
    open_, locked = MetricsConfig(host="0.0.0.0"), MetricsConfig(host="0.0.0.0", key="k")
    with pytest.raises(ConfigError, match="--metrics-key"), Door.opened(open_, open_):
        pass
    with Door.opened(locked, locked) as door:
        assert door.sockets


def test_options_name_a_place() -> None:
    assert config(None, None) is None
    assert config("9100", None) == MetricsConfig(port=9100)
    assert config(":9100", None) == MetricsConfig(port=9100)
    assert config("[::]:9100", "key") == MetricsConfig(host="::", port=9100, key="key")
    assert "secret" not in repr(config("9100", "secret"))


@pytest.mark.parametrize("place", ["", "host", "host:", "1:2:x", "70000", "-1", "٣"])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(typer.BadParameter, match="HOST"):
        config(place, None)


@pytest.mark.parametrize(("place", "key"), [(None, "key"), ("9100", " ")])
def test_a_key_that_keeps_nobody_out_is_refused(place: str | None, key: str) -> None:
    with pytest.raises(ConfigError):
        config(place, key)


def test_histograms_count_as_prometheus_does() -> None:
    buckets = Buckets((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 100):
        buckets.note(value)

    class One(Collector):
        def collect(self) -> list[Metric]:
            return [histogram("test_seconds", "Some.", ("kind",), [("a", buckets)])]

    told = text(new_registry(One())).decode()
    assert 'homeswarm_test_seconds_bucket{kind="a",le="1.0"} 2.0' in told
    assert 'homeswarm_test_seconds_bucket{kind="a",le="2.0"} 3.0' in told
    assert 'homeswarm_test_seconds_bucket{kind="a",le="4.0"} 4.0' in told
    assert 'homeswarm_test_seconds_bucket{kind="a",le="+Inf"} 5.0' in told
    assert 'homeswarm_test_seconds_count{kind="a"} 5.0' in told
    assert 'homeswarm_test_seconds_sum{kind="a"} 107.0' in told
