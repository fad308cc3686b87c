"""The description says what is there, and what comes back is what it says."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from swarm.gateway.endpoints import all_endpoints
from swarm.gateway.openapi import description

SAMPLES = {"model": "tiny", "response_id": "resp_0"}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return json.loads(msgspec.json.encode(description(all_endpoints())))


def test_every_endpoint_is_described_once(described: dict[str, Any]) -> None:
    listed = {
        (re.sub(r"\{(\w+):[^{}]*\}", r"{\1}", each.path), each.method.lower())
        for each in all_endpoints()
    }
    found = {(path, method) for path, each in described["paths"].items() for method in each}
    assert found == listed and len(found) == len(all_endpoints()) > 10
    ids = [each["operationId"] for path in described["paths"].values() for each in path.values()]
    assert len(set(ids)) == len(ids)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    text = json.dumps(described)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names and names <= set(described["components"]["schemas"])


def test_bodies_refuse_what_they_do_not_know(described: dict[str, Any]) -> None:
    bodies = [
        each["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for path in described["paths"].values()
        for each in path.values()
        if "requestBody" in each
    ]
    assert len(bodies) >= 5
    for reference in bodies:
        schema = described["components"]["schemas"][reference.rpartition("/")[2]]
        assert schema["additionalProperties"] is False, reference


@pytest.mark.parametrize("body", [None, b"{", b"{}", b"[]", b'{"model": 1, "zzz": 2}'])
async def test_what_comes_back_is_described(
    serve: Any, described: dict[str, Any], body: bytes | None
) -> None:
    async with serve(all_endpoints()) as client:
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                place = path.format(**SAMPLES)
                headers = {"Content-Type": "application/json"} if body else {}
                async with client.request(method, place, data=body, headers=headers) as answer:
                    said = operation["responses"].get(str(answer.status))
                    assert said is not None, (method, place, answer.status)
                    assert answer.content_type in said["content"], (method, place)
                    for name, header in said["headers"].items():
                        assert name in answer.headers or not header.get("required"), place


async def test_what_needs_a_key_is_described_as_it_is_now(serve: Any) -> None:
    async with serve(all_endpoints()) as client, client.get("/openapi.json") as answer:
        free = await answer.json()
    assert free["paths"]["/v1/models"]["get"]["security"] == []
    needed = description(all_endpoints())["paths"]
    assert len(needed["/v1/models"]["get"]["security"]) == 2
    assert needed["/health"]["get"]["security"] == [], "open to all"
