"""What every test has."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


@pytest.fixture(autouse=True)
def no_hidden_failures(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A task's root logs what it must not raise; a test in which that happened has failed.

    A test that provokes such a failure on purpose clears `caplog`.
    """
    yield
    errors = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.levelno >= logging.ERROR and record.name.startswith("swarm")
    ]
    assert not errors, errors


class SimulatedTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer whenever there is nothing else to do.

    Time stands still while tasks run. Only while a thread works for the loop does the clock go as
    clocks do, and never past the next timer.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._num_jobs = 0
        super().__init__(_IdleSelector(self))

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        self._num_jobs += 1
        future.add_done_callback(self._end_job)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        self._num_jobs += 1
        await super().shutdown_default_executor(*args)

    def _end_job(self, _: asyncio.Future[Any]) -> None:
        self._num_jobs -= 1


class _IdleSelector(selectors.DefaultSelector):
    def __init__(self, loop: SimulatedTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select()
        if self._loop._num_jobs:
            started = time.perf_counter()
            events = super().select(timeout)
            # However long this process stood still, nothing is overdue by more than it must be.
            self._loop._now += min(timeout, time.perf_counter() - started)
            return events
        events = super().select(0)
        if not events:
            self._loop._now += max(0.0, timeout)
        return events


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "simulated_time: the event loop's clock needs no waiting")
    # Started in the background of a script, we and our children would ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests marked `simulated_time` get such a loop."""
    if item.get_closest_marker("simulated_time"):
        return {"simulated": SimulatedTimeLoop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def make_byte_level() -> Callable[..., Any]:
    """`make_byte_level(merges=(), template=None)`: a tokenizer of bytes, as GPT-2's and its heirs'.

    Its first three ids are special: padding, beginning and end.
    """

    def make(merges: Sequence[tuple[str, str]] = (), template: str | None = None) -> Any:
        # Tests without a model start without loading transformers.
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
        words += [left + right for left, right in merges]
        vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
        backend = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
        )
        tokenizer.chat_template = template
        return tokenizer

    return make


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The demonstration model, SmolLM2-135M."""
    from swarm.cli.demo import demonstration_model
    from swarm.errors import ConfigError

    try:
        return demonstration_model()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def plain_model(model_file: Path) -> Any:
    """The demonstration model as transformers runs it, float32."""
    # Tests without a model start without loading torch.
    import torch
    from transformers import AutoModelForCausalLM

    from swarm.checkpoint import open_checkpoint
    from swarm.checkpoint.quiet import quiet

    with open_checkpoint(str(model_file)) as checkpoint, quiet():
        state = checkpoint.load_ends(torch.float32)
        state |= checkpoint.load_blocks(0, checkpoint.num_blocks, torch.float32)
        with torch.device("meta"):
            kind: Any = type(AutoModelForCausalLM.from_config(checkpoint.config))
        return kind.from_pretrained(
            None, config=checkpoint.config, state_dict=state, dtype=torch.float32
        ).eval()


@pytest.fixture(scope="session")
def greedy(plain_model: Any) -> Callable[[list[int], int], list[int]]:
    """`greedy(prompt_ids, count)`: plain transformers' greedy tokens, float32."""
    import torch

    def answer(ids: list[int], count: int) -> list[int]:
        prompt = torch.tensor([ids])
        out = plain_model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return [int(token) for token in out[0, len(ids) :]]

    return answer


@pytest.fixture
def make_certificate(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """`make_certificate(name)`: files with a certificate for 127.0.0.1 and its private key."""

    def make(name: str, password: bytes | None = None) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        lock = BestAvailableEncryption(password) if password else NoEncryption()
        files = tmp_path / f"{name}.crt.pem", tmp_path / f"{name}.key.pem"
        files[0].write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
        return files

    return make


@pytest.fixture
def certificate(make_certificate: Callable[..., tuple[Path, Path]]) -> tuple[Path, Path]:
    """Files with a certificate and its private key."""
    return make_certificate("here")
