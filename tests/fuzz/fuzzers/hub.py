"""What the Hugging Face hub answers, or whoever stands in its way: a café's login page, a proxy."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import huggingface_hub
import torch
from huggingface_hub import constants
from huggingface_hub.utils._http import default_client_factory
from hypothesis import strategies as st
from safetensors.torch import save

from swarm.checkpoint import open_checkpoint, range_client
from swarm.errors import ConfigError

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import DEEP_JSON, HUGE, altered, mutated

# huggingface_hub's own HTTP library, which has had two names.
_http: Any = import_module(range_client.TransportError.__module__.partition(".")[0])

_BOUNDS = Bounds(memory=32 << 20, memory_per_byte=200, lines=50_000, lines_per_byte=100)
_REPO = "people/tiny"
_COMMIT = "c" * 40
_CONFIG = {
    "model_type": "llama",
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 4,
}


@cache
def _weights() -> bytes:
    names = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight"]
    return bytes(save({name: torch.zeros(2, 2) for name in names}))


def _info() -> dict[str, Any]:
    size = len(_weights())
    weights = {
        "rfilename": "model.safetensors",
        "size": size,
        "blobId": "b" * 40,
        "lfs": {"sha256": "d" * 64, "size": size, "pointerSize": 130},
    }
    config = {"rfilename": "config.json", "size": 90, "blobId": "a" * 40}
    return {"id": _REPO, "sha": _COMMIT, "siblings": [config, weights], "tags": []}


@dataclass(frozen=True)
class Answer:
    """A status, the headers that differ from a sound answer's, and the content if it does."""

    status: int | None
    headers: dict[str, str]
    content: bytes | None


_STATUS = st.one_of(
    st.none(), st.none(), st.sampled_from([200, 204, 206, 302, 400, 401, 403, 404, 416])
)
_NUMBER = st.one_of(
    st.integers(0, 300).map(str), st.sampled_from([*map(str, HUGE), "9" * 5000, "٣", "-1", "", "*"])
)
_RANGE = st.builds("bytes {}-{}/{}".format, _NUMBER, _NUMBER, _NUMBER).map(
    lambda text: text.encode("utf-8").decode("latin1")
)
_HEADERS = st.dictionaries(
    st.sampled_from(["etag", "x-repo-commit", "x-linked-size", "x-linked-etag", "content-length"]),
    st.sampled_from(["", "x", '"', "0", "-1", "9" * 40, "c" * 40, "../..", "a/b"]),
    max_size=2,
)


def _json(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return values.map(lambda value: json.dumps(value, default=repr).encode())


_PAGES = st.sampled_from([b"", b"<!doctype html><html>Log in</html>", b"\xff\xfe", b"null", b"[]"])
_INFOS = st.builds(
    Answer,
    _STATUS,
    st.just({}),
    st.one_of(
        _json(altered(_info())), _json(altered(_info())), _json(altered(_info())), _PAGES, DEEP_JSON
    ),
)
_FILES = st.builds(
    Answer,
    _STATUS,
    _HEADERS,
    st.one_of(st.none(), _PAGES, mutated([json.dumps(_CONFIG).encode()])),
)
_RANGES = st.builds(
    Answer,
    _STATUS,
    st.one_of(st.just({}), _RANGE.map(lambda text: {"content-range": text})),
    st.one_of(st.none(), st.binary(max_size=300)),
)
SOUND = Answer(None, {}, None)
_CASES = st.one_of(
    st.tuples(_INFOS, st.just(SOUND), st.just(SOUND)),
    st.tuples(st.just(SOUND), _FILES, st.just(SOUND)),
    st.tuples(st.just(SOUND), st.just(SOUND), _RANGES),
    st.tuples(_INFOS, _FILES, _RANGES),
)


class _Hub:
    """Answers every request as a play has it."""

    def __init__(self, info: Answer, file: Answer, part: Answer) -> None:
        self._info, self._file, self._part = info, file, part

    def __call__(self, request: Any) -> Any:
        path, wanted = request.url.path, request.headers.get("range")
        if path.startswith("/api/"):
            return self._respond(self._info, 200, {}, json.dumps(_info()).encode())
        headers = {"etag": f'"{"e" * 40}"', "x-repo-commit": _COMMIT}
        if not path.endswith(".safetensors"):
            return self._respond(self._file, 200, headers, json.dumps(_CONFIG).encode())
        begin, end = 0, len(_weights())
        with suppress(ValueError, AttributeError):
            begin, end = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
        headers["content-range"] = f"bytes {begin}-{end}/{len(_weights())}"
        return self._respond(self._part, 206, headers, _weights()[begin : end + 1])

    def _respond(self, answer: Answer, status: int, headers: dict[str, str], content: bytes) -> Any:
        content = content if answer.content is None else answer.content
        headers = {**headers, "content-length": str(len(content)), **answer.headers}
        if answer.status == 302:
            headers["location"] = "/elsewhere"
        raw = [(name.encode(), value.encode("latin1")) for name, value in headers.items()]
        return _http.Response(
            answer.status or status, headers=raw, stream=_http.ByteStream(content)
        )


@contextmanager
def _staged(hub: _Hub, folder: Path) -> Iterator[None]:
    """Within the block the hub is this one, nothing is known from before, and nobody waits."""
    transport = _http.MockTransport(hub)
    settings = {"HF_ENDPOINT": "http://hub.invalid", "HF_HUB_OFFLINE": ""}
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, settings))
        for where, name, value in (
            (constants, "HF_HUB_CACHE", str(folder / "hub")),
            (constants, "HF_TOKEN_PATH", str(folder / "token")),
            (constants, "HF_HUB_DISABLE_PROGRESS_BARS", True),
            (range_client, "FIRST_WAIT_S", 0.0),
        ):
            stack.enter_context(patch.object(where, name, value))
        huggingface_hub.set_client_factory(lambda: _http.Client(transport=transport))
        stack.callback(huggingface_hub.set_client_factory, default_client_factory)
        yield


def _open(folder: Path) -> int:
    with open_checkpoint(_REPO, cache_dir=folder / "weights") as checkpoint:
        checkpoint.load_ends(torch.float32)
        return checkpoint.num_blocks


@cache
def _warm() -> None:
    """Loads what is loaded the first time: that is no input's doing."""
    with tempfile.TemporaryDirectory() as folder, _staged(_Hub(SOUND, SOUND, SOUND), Path(folder)):
        assert _open(Path(folder)) == 1


def check(case: tuple[Answer, Answer, Answer]) -> None:
    """A model, or a refusal that says what the hub did."""
    _warm()
    size = sum(len(answer.content or b"") for answer in case)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with _staged(_Hub(*case), folder):
            found = read(lambda: _open(folder), ConfigError, size, _BOUNDS)
        assert found is None or found == 1
        assert {path.name for path in folder.iterdir()} <= {"hub", "weights"}


FUZZER = Fuzzer(_CASES, check, examples=60)
