"""One swarm of processes, and two gateways to it, for all tests here.

Three peers hold a part of SmolLM2 each: every reply passes two of them, and what one of the last
two holds, the other has, too. A gateway that is `plain` has the defaults; one that is `strict` has
keys, TLS, a page that may ask, and room for a single answer at a time. Both also offer `mute`, a
tiny model without a chat template, which no peer serves until a test has one do so.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

MODEL = "smol"
MUTE = "mute"
PAGE = "https://chat.example"
SPANS = {"first": "0:10", "second": "10:30", "third": "10:30"}
STRICT = ["--most-running", "1", "--most-waiting", "2", "--most-waiting-each", "1", "--wait", "1"]
STRICT += ["--most-body", "20KB", "--cors", PAGE, "--patience", "3"]

LONG = 60.0
"""Seconds that nothing takes, however busy the machine is."""

SOON = 10.0
"""Seconds, in which a busy machine lets go of answers that it would write for far longer."""

_LEFT_OPEN = "ignore:Exception ignored in. <(function _SelectorTransport|socket.socket)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Packages that ask may leave a stream's socket to the garbage collector when it breaks off.

    What the gateway holds then is counted at the gateway.
    """
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(_LEFT_OPEN))


@pytest.fixture(scope="module", autouse=True)
def collect_what_is_left() -> Iterator[None]:
    """Whatever was left to the garbage collector goes here, and not in a test of another folder."""
    yield
    gc.collect()


@dataclass
class Shared:
    """The swarm, and where its gateways are."""

    processes: Any
    urls: dict[str, str]
    certificate: Path
    mute: Path

    @property
    def plain(self) -> str:
        """The URL of the gateway with defaults, without `/v1`."""
        return self.urls["plain"]

    @property
    def strict(self) -> str:
        """The URL of the other one."""
        return self.urls["strict"]

    @property
    def trust(self) -> ssl.SSLContext:
        """What knows the strict gateway's certificate."""
        return ssl.create_default_context(cafile=self.certificate)

    def key(self, name: str) -> str:
        """A new key of the strict gateway's, by the command line."""
        made = self.processes.command("serve", "keys", "add", name, "--dir", self.keys)
        assert made.returncode == 0, made.stderr
        return str(made.stdout.strip())

    def revoke(self, name: str) -> None:
        """Takes one back."""
        done = self.processes.command("serve", "keys", "revoke", name, "--dir", self.keys)
        assert done.returncode == 0, done.stderr

    @property
    def keys(self) -> str:
        """The strict gateway's folder of keys."""
        return str(self.processes.folder / "keys")

    async def census(self, name: str) -> dict[str, int]:
        """What a process holds, asked now."""
        return dict(await asyncio.to_thread(self.processes.census, name))

    async def held(self) -> dict[str, int]:
        """What requests hold, at the gateways and at the peers."""
        found: dict[str, int] = {}
        for name in self.processes.running:
            if name != "bootstrap":
                counts = await self.census(name)
                kinds = ("sessions", "openings", "leased_pages", "requests", "places", "waiting")
                found |= {f"{name}.{kind}": counts[kind] for kind in kinds if counts.get(kind)}
        return found

    async def released(self) -> None:
        """Waits until nobody holds anything of a request, which is soon."""
        deadline = time.monotonic() + SOON
        while held := await self.held():
            assert time.monotonic() < deadline, held

    async def until(self, name: str, kind: str, number: int) -> None:
        """Waits until a process holds so many of something."""
        deadline = time.monotonic() + LONG
        while (found := (await self.census(name)).get(kind)) != number:
            assert time.monotonic() < deadline, f"{name} holds {found} {kind}"


def _start(processes: Any, certificate: tuple[Path, Path], mute: Path) -> dict[str, str]:
    processes.bootstrap()
    common = ["--join", processes.invite, "--dtype", "float32", "--threads", "1", "--port", "0"]
    common += ["--audit", "0"]  # Whoever checks peers holds sessions, too.
    common += ["--model", f"{MODEL}={processes.model}", "--model", f"{MUTE}={mute}"]
    strict = [*STRICT, "--dir", str(processes.folder / "keys")]
    strict += ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1])]
    for name, blocks in SPANS.items():
        processes.peer(name, blocks)
    processes.start("plain", "serve", *common, "--wait", "60")
    processes.start("strict", "serve", *common, *strict)
    for name in SPANS:
        processes.line(name)
    lines = {name: processes.line(name) for name in ("plain", "strict")}
    return {name: line.rpartition(" ")[2].removesuffix("/v1") for name, line in lines.items()}


def _make_mute(folder: Path) -> None:
    """A model of random weights whose tokens are bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    sizes = {"hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 256}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(words), bos_token_id=0, eos_token_id=1, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


def _make_certificate(folder: Path) -> tuple[Path, Path]:
    """Files with a certificate for 127.0.0.1, which vouches for itself, and its private key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(1))
        .not_valid_after(now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@pytest.fixture(scope="session")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
    processes_in: Callable[[Path], AbstractContextManager[Any]],
) -> Iterator[Shared]:
    """The swarm with its gateways."""
    folder = tmp_path_factory.mktemp("gateway")
    _make_mute(folder / MUTE)
    certificate = _make_certificate(folder)
    with processes_in(folder) as processes:
        urls = _start(processes, certificate, folder / MUTE)
        yield Shared(processes, urls, certificate[0], folder / MUTE)


@pytest.fixture(scope="session")
def program(shared: Shared) -> Iterator[openai.OpenAI]:
    """The `openai` package, asking the plain gateway."""
    with openai.OpenAI(base_url=f"{shared.plain}/v1", api_key="-", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_program(shared: Shared) -> AsyncIterator[openai.AsyncOpenAI]:
    """The same, asynchronously."""
    async with openai.AsyncOpenAI(
        base_url=f"{shared.plain}/v1", api_key="-", max_retries=0
    ) as client:
        yield client


@pytest.fixture(scope="session")
def claude(shared: Shared) -> Iterator[anthropic.Anthropic]:
    """The `anthropic` package, asking the plain gateway."""
    with anthropic.Anthropic(base_url=shared.plain, api_key="-", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_claude(shared: Shared) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The same, asynchronously."""
    async with anthropic.AsyncAnthropic(
        base_url=shared.plain, api_key="-", max_retries=0
    ) as client:
        yield client


@pytest.fixture
def keyed(shared: Shared) -> Iterator[Callable[[str], openai.OpenAI]]:
    """`keyed(key)`: the `openai` package, asking the strict gateway."""
    with openai.DefaultHttpxClient(verify=shared.trust) as http:
        yield lambda key: openai.OpenAI(
            base_url=f"{shared.strict}/v1", api_key=key, max_retries=0, http_client=http
        )


TRACED = {"X-Homeswarm-Trace": "1"}


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: what of its prompt was known, and the hops that it went to."""

    num_cached: int
    route: list[Any]


@pytest.fixture
def check_turns() -> Callable[[Callable[[dict[str, str]], tuple[int, Any]]], None]:
    """Checks that a longer conversation finds more of it known, on the peers that had it before.

    Which peers that are depends on speeds, too, and these on what else the machine does. Given is
    what asks the next turn with these headers; it returns the tokens that were known, and headers.
    """

    def check(ask: Callable[[dict[str, str]], tuple[int, Any]]) -> None:
        turns, num_grown = [], 0
        while num_grown < 2:
            assert len(turns) < 12, turns
            num_cached, headers = ask(TRACED)
            hops = json.loads(headers["X-Homeswarm-Trace"])["hops"]
            # By name and blocks: no two of these peers with the same blocks have the same name.
            turns.append(Turn(num_cached, [(hop["peer"], hop["blocks"]) for hop in hops]))
            if len(turns) < 2:
                continue
            before, now = turns[-2:]
            if before.route == now.route:
                assert now.num_cached >= max(1, before.num_cached), turns
                num_grown += now.num_cached > before.num_cached

    return check


@pytest.fixture(scope="session")
def tokenizer(model_file: Path) -> Any:
    """SmolLM2's own."""
    from swarm.checkpoint import open_checkpoint

    with open_checkpoint(str(model_file)) as checkpoint:
        return checkpoint.tokenizer()
