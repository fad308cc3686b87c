"""The gateway described in OpenAPI 3.2, by its endpoints and the types of their bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from aiohttp import web

from swarm import __version__

from .admission import LOCAL
from .endpoint import Call, Endpoint
from .openai.dialect import OPENAI
from .refusals import Reason, Refusal

_PARAMETER = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_SCHEMA = "#/components/schemas/{name}"

_ALWAYS = (Reason.INVALID, Reason.UNAUTHORIZED, Reason.FORBIDDEN, Reason.FAILED, Reason.STOPPING)
_OF_BODIES = (
    Reason.UNKNOWN_MODEL,
    Reason.SLOW,
    Reason.TOO_LARGE,
    Reason.MEDIA_TYPE,
    Reason.BUSY,
    Reason.NO_ROUTE,
)
_MEANINGS = {
    400: "The request is wrong, or asks for what is not supported",
    401: "A key is needed",
    403: "No key is set, and a web page seems to ask",
    404: "There is no such model, or nothing of this name",
    408: "The body did not come in time",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "As many requests wait as may",
    500: "The gateway failed",
    503: "There is no route through the swarm, or the gateway is stopping",
    529: "There is no route through the swarm, or the gateway is stopping",
}


def endpoint(others: Sequence[Endpoint]) -> Endpoint:
    """The endpoint that describes `others`."""
    pages = {
        keyed: msgspec.json.encode(description(others, keyed=keyed)) for keyed in (True, False)
    }

    async def show(call: Call) -> web.Response:
        page = pages[call.caller is not LOCAL]
        return web.Response(body=page, content_type="application/json")

    summary = "This description"
    return Endpoint("GET", "/openapi.json", summary, OPENAI, show, answer=dict[str, Any], open=True)


def description(endpoints: Sequence[Endpoint], *, keyed: bool = True) -> dict[str, Any]:
    """The whole document, of a gateway that needs keys or one that does not."""
    schemas = _Schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for each in endpoints:
        path = _PARAMETER.sub(r"{\1}", each.path)
        paths.setdefault(path, {})[each.method.lower()] = _operation(each, schemas, keyed=keyed)
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "Homeswarm gateway",
            "version": __version__,
            "description": "A swarm's models behind the APIs of OpenAI and Anthropic.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


class _Schemas:
    """The schemas of all types, and of each the reference to it."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        types: list[Any] = []
        for each in endpoints:
            wanted = (each.body, each.answer, each.events, each.dialect.error)
            types += [part for kind in wanted for part in _parts(kind) if part not in types]
        found, self.components = msgspec.json.schema_components(types, ref_template=_SCHEMA)
        self._found = list(zip(types, found, strict=True))
        _name_kinds_in_unions_alone(self.components)

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type."""
        schemas = [schema for known, schema in self._found if known in _parts(kind)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _name_kinds_in_unions_alone(components: dict[str, Any]) -> None:
    """Says of kinds that bodies consist of when they have to be named: where there are several.

    msgspec writes that each always is, and yet takes one without its `type` where nothing else can
    stand.
    """
    for schema in components.values():
        if schema.get("additionalProperties") is False and schema["properties"]:
            tag, first = next(iter(schema["properties"].items()))
            if first.keys() == {"enum"} and len(first["enum"]) == 1:
                schema["required"] = [name for name in schema["required"] if name != tag]
        _name_kinds(schema)


def _name_kinds(schema: Any) -> None:
    if isinstance(schema, list):
        for each in schema:
            _name_kinds(each)
    elif isinstance(schema, dict):
        if tag := schema.get("discriminator"):
            name = tag["propertyName"]
            schema["anyOf"] = [{**each, "required": [name]} for each in schema["anyOf"]]
        for each in schema.values():
            _name_kinds(each)


def _parts(kind: Any) -> tuple[Any, ...]:
    """The types of a union: msgspec joins only those that it could tell apart itself."""
    if kind is None:
        return ()
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _operation(each: Endpoint, schemas: _Schemas, *, keyed: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(each),
        "summary": each.summary,
        "security": [{"bearer": []}, {"x-api-key": []}] if keyed and not each.open else [],
        "responses": _responses(each, schemas),
    }
    if names := _PARAMETER.findall(each.path):
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if each.body is not None:
        content = {"application/json": {"schema": schemas.of(each.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _name(each: Endpoint) -> str:
    words = re.findall(r"\w+", _PARAMETER.sub(r"\1", each.path))
    return "_".join([each.method.lower(), *words])


def _responses(each: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if each.answer is not None:
        kind = "text/plain" if each.answer is str else "application/json"
        content[kind] = {"schema": schemas.of(each.answer)}
    if each.events is not None:
        content["text/event-stream"] = {"itemSchema": _event(schemas, each)}
    head = _headers(each.dialect.id_header)
    responses: dict[str, Any] = {
        "200": {"description": each.summary, "headers": head, "content": content}
    }
    reasons = [*_ALWAYS, *(_OF_BODIES if each.body is not None else ())]
    if _PARAMETER.search(each.path):
        reasons.append(Reason.NOT_FOUND)
    for status in sorted({each.dialect.status(Refusal(reason, "")) for reason in reasons}):
        responses[str(status)] = _refused(status, each, schemas)
    return responses


def _event(schemas: _Schemas, each: Endpoint) -> dict[str, Any]:
    """An event of a stream, as OpenAPI 3.2 has it.

    A stream that breaks off ends with a refusal, and some end with an event that is no JSON.
    """
    told = {"anyOf": [schemas.of(each.events), schemas.of(each.dialect.error)]}
    data = {
        "anyOf": [
            {"const": "[DONE]"},
            {"type": "string", "contentMediaType": "application/json", "contentSchema": told},
        ]
    }
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def _refused(status: int, each: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    schema = schemas.of(each.dialect.error)
    if status == 503 and each.body is None and each.answer is not None:
        # What is told of models comes with this status, too.
        schema = {"anyOf": [schema, schemas.of(each.answer)]}
    return {
        "description": _MEANINGS[status],
        "headers": _headers(each.dialect.id_header, retries=status in (429, 503, 529)),
        "content": {"application/json": {"schema": schema}},
    }


def _headers(id_header: str, *, retries: bool = False) -> dict[str, Any]:
    headers: dict[str, Any] = {
        id_header: {"required": True, "schema": {"type": "string"}},
    }
    if retries:
        headers["Retry-After"] = {"schema": {"type": "integer", "minimum": 1}}
    return headers
