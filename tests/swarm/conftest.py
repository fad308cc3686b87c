"""What tests of several modules share: chains of certificates, a stand-in for the hub, models."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from swarm import identity
from swarm.group import Group
from swarm.invite import Bootstrap, Invite
from swarm.membership.certificate import ROLES, Certificate, Role, examine, issue
from swarm.membership.founder import Founder
from swarm.membership.membership import Membership
from swarm.membership.revocation import Revocation, RevocationList, sign_list
from swarm.membership.trust import Trust
from swarm.transport import Stream, Transport
from swarm.wire.enrolment import (
    PROTOCOL,
    Answer,
    Decline,
    Declined,
    Enrol,
    Enrolled,
    Question,
    Renew,
    Station,
    Ticket,
    decode_question,
    encode,
    proof_message,
)

if TYPE_CHECKING:
    from swarm.directory.dht import DhtDirectory
    from swarm.member import JoinConfig
    from swarm.transport.libp2p import Libp2pTransport
    from swarm.transport.relayed import RelayedTransport

REPO = "people/tiny"


@dataclass
class StandIn:
    """Serves one repository whose revisions are local folders, and remembers what it served."""

    revisions: dict[str, Path] = field(default_factory=dict)
    served: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    requests: list[str] = field(default_factory=list)
    lfs_suffixes: tuple[str, ...] = (".safetensors", ".bin")
    drop_after: int | None = None  # bytes of a weight response before the connection breaks
    drops_left: int = 0
    ignore_ranges: bool = False
    refuse_files: int | None = None
    refuse_all: int | None = None
    busy_answers: int = 0
    shift_ranges: int = 0
    grow_totals: int = 0
    token: str | None = None
    redirect: str | None = None  # another origin, which weights are fetched from
    redirected_tokens: list[str | None] = field(default_factory=list)
    endpoint: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, folder: Path, revision: str = "main") -> str:
        """Serve `folder` as `revision`; the commit follows from the folder's path."""
        commit = hashlib.sha1(str(folder).encode()).hexdigest()
        self.revisions[revision] = self.revisions[commit] = folder
        return commit

    def commit(self, revision: str) -> str:
        return hashlib.sha1(str(self.revisions[revision]).encode()).hexdigest()

    def weight_bytes(self) -> int:
        """How many bytes of safetensors files went out."""
        return sum(
            end - begin
            for name, ranges in self.served.items()
            if name.endswith(".safetensors")
            for begin, end in ranges
        )

    def answer_info(self, revision: str) -> dict[str, Any]:
        folder = self.revisions[revision]
        siblings = []
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            entry: dict[str, Any] = {
                "rfilename": path.name,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
            }
            if path.suffix in self.lfs_suffixes:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {"id": REPO, "sha": self.commit(revision), "siblings": siblings, "tags": []}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: StandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub, path = self.hub, self.path.split("?")[0]
        hub.requests.append(f"{self.command} {path}")
        if hub.refuse_all:
            return self._send(hub.refuse_all, b"", body)
        if match := re.fullmatch(r"/elsewhere/([^/]+)/([^/]+)", path):
            hub.redirected_tokens.append(self.headers.get("Authorization"))
            return self._file(match[1], match[2], body)
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._send(401, b"", body)
        if match := re.fullmatch(rf"/api/models/{REPO}(?:/revision/([^/]+))?", path):
            if (revision := match[1] or "main") not in hub.revisions:
                return self._send(404, b"", body, {"X-Error-Code": "RevisionNotFound"})
            answer = json.dumps(hub.answer_info(revision)).encode()
            return self._send(200, answer, body, {"Content-Type": "application/json"})
        if match := re.fullmatch(rf"/{REPO}/resolve/([^/]+)/([^/]+)", path):
            if hub.redirect and match[2].endswith(".safetensors"):
                where = {"Location": f"{hub.redirect}/elsewhere/{match[1]}/{match[2]}"}
                return self._send(302, b"", body, where)
            return self._file(match[1], match[2], body)
        return self._send(404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def _file(self, revision: str, name: str, body: bool) -> None:
        hub = self.hub
        path = hub.revisions.get(revision, Path("/nowhere")) / name
        if not path.is_file():
            return self._send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        weight = path.suffix in (".safetensors", ".bin")
        if weight and hub.refuse_files:
            return self._send(hub.refuse_files, b"", body)
        if weight and hub.busy_answers:
            hub.busy_answers -= 1
            return self._send(503, b"", body)
        content = path.read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": hub.commit(revision),
        }
        wanted = self.headers.get("Range")
        if wanted is None or hub.ignore_ranges:
            self._count(name, 0, len(content), body)
            return self._send(200, content, body, headers)
        begin, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups())
        end = min(last + 1, len(content))
        shift, total = hub.shift_ranges, len(content) + hub.grow_totals
        headers["Content-Range"] = f"bytes {begin + shift}-{end - 1 + shift}/{total}"
        part = content[begin:end]
        with hub.lock:
            drop = body and hub.drops_left > 0 and len(part) > (hub.drop_after or 0)
            hub.drops_left -= drop
        if drop:
            self._count(name, begin, begin + hub.drop_after, body)
            self._send(206, part, body, headers, hub.drop_after)
            self.close_connection = True
            return None
        self._count(name, begin, end, body)
        return self._send(206, part, body, headers)

    def _count(self, name: str, begin: int, end: int, body: bool) -> None:
        if body:
            with self.hub.lock:
                self.hub.served[name].append((begin, end))

    def _send(
        self,
        status: int,
        content: bytes,
        body: bool,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[:cut])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A running stand-in; huggingface_hub and Homeswarm talk to it, caches are empty."""
    import huggingface_hub
    from huggingface_hub import constants

    from swarm.checkpoint import range_client

    stand_in = StandIn()
    handler = type("Handler", (_Handler,), {"hub": stand_in})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stand_in.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", stand_in.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(range_client, "FIRST_WAIT_S", 0.0)
    try:
        yield stand_in
    finally:
        huggingface_hub.close_session()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def tiny_llama() -> Any:
    """A llama of 5 blocks with random weights and an untied head, in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(7)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=96,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<s>": 1, "</s>": 2, "<unk>": 0, "blue": 3, "sky": 4}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def single_folder(tiny_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama in one safetensors file, with a tokenizer. Tests do not change it."""
    folder = tmp_path_factory.mktemp("single") / "tiny"
    tiny_llama.save_pretrained(folder)
    _save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def sharded_folder(tiny_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama in shards of at most 30 KB. Tests do not change it."""
    folder = tmp_path_factory.mktemp("sharded") / "tiny"
    tiny_llama.save_pretrained(folder, max_shard_size="30KB")
    return folder


@dataclass(frozen=True)
class Holder:
    """Somebody with a key, and what that key has been certified for in a group.

    It issues whatever it is told to, as one does that does not keep the rules.
    """

    key: identity.Identity
    group: Group
    credential: bytes = b""

    NOW: ClassVar[float] = 1.8e9
    DAY: ClassVar[float] = 86_400.0

    @property
    def peer(self) -> str:
        return self.key.peer_id

    def certificate(self, peer: str, /, **changes: Any) -> Certificate:
        """What this one would say of a peer."""
        usual = Certificate(
            peer, self.peer, "name", ROLES[Role.PEER], self.NOW, self.NOW + self.DAY
        )
        return msgspec.structs.replace(usual, **changes)

    def certify(self, who: str, role: Role = Role.PEER, /, **changes: Any) -> Holder:
        """The holder of a certificate by this one; `changes` are made to it before it is signed."""
        key = key_of(who)
        changes = {"name": who, "roles": ROLES[role], **changes}
        certificate = self.certificate(key.peer_id, **changes)
        credential = issue(certificate, self.group, self.key.sign, self.credential)
        return Holder(key, self.group, credential)

    def revoke(self, *members: str, number: int = 1) -> bytes:
        """Its list of those that it has thrown out."""
        gone = (Revocation(each, "name", self.NOW, self.NOW + self.DAY) for each in members)
        content = RevocationList(number, tuple(gone))
        return sign_list(content, self.group, self.key.sign, self.credential)

    def membership(self, clock: Callable[[], float]) -> Membership:
        """This one's own, with whom it trusts."""
        trust = Trust(self.group, identity.verifies, clock=clock)
        return Membership(trust, self.credential, self.key.sign)


def key_of(name: str) -> identity.Identity:
    """The key of whoever has this name: always the same one."""
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    peer = identity.peer_id(key.public_key().public_bytes_raw())
    return identity.Identity(Path("nowhere"), peer, key)


@pytest.fixture(name="key_of")
def _key_of() -> Callable[[str], identity.Identity]:
    """`key_of(name)`: a key without a file, always the same one."""
    return key_of


@pytest.fixture
def root() -> Holder:
    """The key of a group, which is above all its certificates."""
    key = key_of("group")
    return Holder(key, Group(key.peer_id))


@pytest.fixture
def stranger() -> Holder:
    """The key of another group."""
    key = key_of("another group")
    return Holder(key, Group(key.peer_id))


@pytest.fixture
def authority(root: Holder) -> Holder:
    """The authority that the group's key has certified."""
    return root.certify("authority", Role.AUTHORITY, expires=1e10)


@dataclass
class Office:
    """A tiny bootstrap: an authority at its desk, which admits and renews from memory."""

    founder: Founder
    key: identity.Identity
    addresses: tuple[str, ...] = ()
    name: str = "friends"
    lifetime: float = 86_400.0
    stations: tuple[Station, ...] = ()
    asked: list[Question] = field(default_factory=list)
    tickets: dict[bytes, tuple[Ticket, Role, int, float]] = field(default_factory=dict)
    members: dict[str, Role] = field(default_factory=dict)
    redeemed: set[tuple[bytes, str]] = field(default_factory=set)
    expelled: list[str] = field(default_factory=list)
    twist: Callable[[Question, Answer], Answer] = field(default=lambda _, answer: answer)
    """What it really answers."""

    async def serve(self, transport: Transport) -> None:
        self.addresses = transport.addresses
        self.stations = self.stations or (Station(self.key.peer_id, self.addresses),)
        await transport.serve(PROTOCOL, self._attend)

    def invite(self, role: Role = Role.PEER, uses: int = 1, lasts: float = 1e6) -> Invite:
        ticket = Ticket(b"%08d" % len(self.tickets), b"s" * 16)
        expires = self.founder.trust().clock() + lasts
        self.tickets[ticket.number] = ticket, role, uses, expires
        group = identity.public_key(self.founder.group.key)
        mine = identity.public_key(self.key.peer_id)
        assert group is not None and mine is not None
        bare = tuple(each.partition("/p2p/")[0] for each in self.addresses)
        return Invite(group, (Bootstrap(mine, bare),), ticket, role, expires, self.name)

    def expel(self, *members: str) -> bytes:
        """Throws them out; the list that says so."""
        self.expelled += members
        return self.founder.revoke(*members)

    @property
    def kinds(self) -> list[str]:
        """What it has been asked for."""
        return [type(question).__name__ for question in self.asked]

    async def _attend(self, stream: Stream) -> None:
        header, _ = await stream.receive()
        question = decode_question(bytes(header))
        self.asked.append(question)
        answer = self.twist(question, self._answer(stream.peer, question))
        await stream.send(encode(answer), b"")

    def _answer(self, peer: str, question: Question) -> Answer:
        assert isinstance(question, Enrol | Renew)
        message = proof_message(self.founder.group.key, peer, self.key.peer_id)
        if not identity.verifies(message, question.proof, question.subject):
            return Declined(Decline.FOREIGN)
        if question.subject in self.expelled:
            enrols = isinstance(question, Enrol)
            return Declined(Decline.FORBIDDEN if enrols else Decline.REVOKED)
        if isinstance(question, Enrol) and (why := self._redeem(question)):
            return Declined(why)
        role = self.members.get(question.subject)
        if role is None:
            assert isinstance(question, Renew)
            shown = examine(question.credential, self.founder.group, identity.verifies)
            assert shown.peer == question.subject
            role = Role.PEER if shown.may(Role.PEER) else Role.CLIENT
        name = getattr(question, "name", "") or "garage-pc"
        credential = self.founder.certify(question.subject, role, name, self.lifetime)
        lists = (self.founder.revoke(),) if self.expelled else ()
        return Enrolled(credential, self.name, self.stations, lists)

    def _redeem(self, question: Enrol) -> Decline | None:
        if question.ticket.number not in self.tickets:
            return Decline.UNKNOWN
        ticket, role, uses, expires = self.tickets[question.ticket.number]
        if question.ticket != ticket:
            return Decline.UNKNOWN
        redemption = (ticket.number, question.subject)
        if redemption not in self.redeemed:
            if self.founder.trust().clock() >= expires:
                return Decline.EXPIRED
            if sum(number == ticket.number for number, _ in self.redeemed) >= uses:
                return Decline.SPENT
        self.redeemed.add(redemption)
        self.members[question.subject] = role
        return None


@pytest.fixture
def open_office() -> type[Office]:
    """Opens offices: `open_office(founder, key)`, then `serve`."""
    return Office


@dataclass
class Home:
    """A bootstrap in little, on this machine: an authority, a relay, and a node of the DHT."""

    founder: Founder
    office: Office
    carrier: Libp2pTransport
    relay: RelayedTransport
    directory: DhtDirectory
    membership: Membership
    folder: Path

    @property
    def peer_id(self) -> str:
        return self.carrier.peer_id

    def invite(self, role: Role = Role.PEER, uses: int = 9) -> Invite:
        return self.office.invite(role, uses)

    def config(self, **options: Any) -> JoinConfig:
        from swarm.member import JoinConfig

        return JoinConfig(**{"host": "127.0.0.1", "state_folder": self.folder / "state", **options})


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    """A bootstrap that runs, and has not admitted anybody yet."""
    from swarm.directory.dht import DhtConfig, DhtDirectory
    from swarm.transport.libp2p import Libp2pConfig, Libp2pTransport
    from swarm.transport.relayed import RelayedConfig, RelayedTransport

    own = identity.create(tmp_path / "authority")
    founder = Founder(key_of("group"), own)
    office, membership = Office(founder, own), founder.membership
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        config = Libp2pConfig(own.path, host="127.0.0.1")
        carrier = await stack.enter_async_context(Libp2pTransport.start(config))
        await office.serve(carrier)
        relaying = RelayedConfig(listens=False, always_relays=True)
        relay = await stack.enter_async_context(
            RelayedTransport.start(carrier, membership, (), relaying)
        )
        directory = await DhtDirectory.join(
            carrier, membership, (), (), DhtConfig(may_be_first=True)
        )
        stack.push_async_callback(directory.aclose)
        yield Home(founder, office, carrier, relay, directory, membership, tmp_path)
