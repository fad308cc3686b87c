"""The libp2p daemon `p2pd` that hivemind brings: one child process, its life, and calls to it.

`swarm.transport.libp2p` stands on this. Importing this module does not load hivemind:
`Daemon.start` does.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from swarm.errors import ConfigError, Unreachable

from .. import state
from .daemon_wire import address_bytes, delimited, peer_bytes, plain, read_message
from .light_hivemind import load
from .quota import Allowances

logger = logging.getLogger(__name__)

_START_TIMEOUT = 20.0
_STOP_TIMEOUT = 3.0
_READ_AHEAD = 256 * 1024
"""Bytes that are read ahead per stream before the other side has to wait."""

_FOLDER_PREFIX = "swarm-p2pd-"
_SETTLED = 60.0
_FILES = 4096
"""Each stream is an open file; `GateLimits` keeps them far below. macOS begins with 256."""
_CALLS_RATE = 20.0
_CALLS_BURST = 200.0
"""Calls of the DHT that one remote may make per second, and at once; members make about two."""

_OWN_PROCESS_GROUP = "import os, sys; os.setpgid(0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Ctrl-C reaches every process of a terminal's group, and p2pd ends on it (even if it was started
with that signal ignored). In a group of its own it lives until we have said goodbye. It still
does not outlive us: it ends when its connection to us does, 30 ms after a kill -9."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
OnStream = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


_OnCall = Callable[[Any, Any], Awaitable[Any]]


class Daemon:
    """One p2pd process. Made by `start`; `aclose` leaves no process, socket or task behind."""

    def __init__(self, p2p: Any, folder: Path, held: ExitStack) -> None:
        self.p2p = p2p
        self.peer_id: str = p2p.peer_id.to_base58()
        self._folder = folder
        self._held = held
        self._proto = load("hivemind.proto.p2pd_pb2")
        self._control = p2p.daemon_listen_maddr["unix"]
        self._server: asyncio.Server | None = None
        self._handlers: dict[str, OnStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._ended = asyncio.Event()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    @classmethod
    async def start(
        cls, options: Mapping[str, Any], on_sent: Callable[[int], None] | None = None
    ) -> Daemon:
        """Starts p2pd with `P2P.create`'s options; raises `ConfigError` if it does not start.

        `on_sent` hears of the bytes that the DHT sends, which pass no stream of ours. A
        cancelled start leaves nothing behind either.
        """
        hivemind = load("hivemind.p2p")
        _sweep()
        _raise_files()
        held = ExitStack()
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        held.enter_context(state.lock(folder))
        made: list[Any] = []
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                p2p = await _owned(folder, made.append, on_sent).create(**options)
                return cls(p2p, folder, held)
        except (hivemind.P2PDaemonError, OSError, EOFError) as error:
            raise ConfigError(f"the libp2p daemon did not start: {error}") from error
        finally:
            if not (made and made[0].peer_id):
                for begun in made:
                    await _stop(begun)
                held.close()

    @property
    def ended(self) -> bool:
        """Whether the process has ended, asked or not."""
        return self._ended.is_set()

    async def wait_ended(self) -> None:
        """Returns when the process has ended."""
        await self._ended.wait()

    async def alive_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Does `work`, which hivemind does with the process, and might wait for it for ever.

        Raises `Unreachable` (of ourselves) as soon as the process has ended, or after a while.
        """
        doing = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait(
                {doing, ended}, timeout=_STOP_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
            )
            if self.ended or not doing.done():
                raise Unreachable(self.peer_id, "our own libp2p daemon does not answer any more")
            doing.result()
        finally:
            for task in (doing, ended):
                task.cancel()
            await asyncio.gather(doing, ended, return_exceptions=True)

    async def addresses(self) -> tuple[str, ...]:
        """Multiaddresses at which p2pd thinks that it can be reached, without `/p2p/`."""
        multiaddr = load("hivemind.utils.multiaddr").Multiaddr
        reply = await self._ask(self.peer_id, self._request("IDENTIFY"))
        return tuple(str(multiaddr(raw)) for raw in reply.identify.addrs)

    async def peers(self) -> dict[str, tuple[str, ...]]:
        """Who is connected, by id, and the multiaddresses from which we see it."""
        multiaddr = load("hivemind.utils.multiaddr").Multiaddr
        peer_id = load("hivemind.p2p").PeerID
        reply = await self._ask(self.peer_id, self._request("LIST_PEERS"))
        seen: dict[str, tuple[str, ...]] = {}
        for entry in reply.peers:
            peer = peer_id(entry.id).to_base58()
            places = (str(multiaddr(raw)) for raw in entry.addrs)
            seen[peer] = (*seen.get(peer, ()), *places)
        return seen

    async def connect(self, peer: str, addresses: Sequence[str]) -> None:
        """Makes sure that there is a connection; raises `Unreachable` if there cannot be one."""
        if peer == self.peer_id:
            return
        request = self._request("CONNECT")
        request.connect.peer = peer_bytes(peer)
        request.connect.addrs.extend(address_bytes(peer, addresses))
        await self._ask(peer, request)

    async def disconnect(self, peer: str) -> None:
        """Ends every connection to a peer, with the streams on them."""
        request = self._request("DISCONNECT")
        request.disconnect.peer = peer_bytes(peer)
        await self._ask(peer, request)

    async def open(self, peer: str, protocol: str) -> Connection:
        """Opens a stream; raises `Unreachable` if the peer is not there or does not serve it."""
        if peer == self.peer_id:
            return await self._open_to_ourselves(protocol)
        request = self._request("STREAM_OPEN")
        request.streamOpen.peer = peer_bytes(peer)
        request.streamOpen.proto.append(protocol)
        _, connection = await self._exchange(peer, request)
        return connection

    async def serve(self, protocol: str, on_stream: OnStream) -> None:
        """Runs `on_stream(peer, reader, writer)` in a task for each stream that others open."""
        multiaddr = load("hivemind.utils.multiaddr").Multiaddr
        path = self._folder / "streams.sock"
        if self._server is None:
            self._server = await asyncio.start_unix_server(
                self._accept, path=str(path), limit=_READ_AHEAD
            )
        self._handlers[protocol] = on_stream
        request = self._request("STREAM_HANDLER")
        request.streamHandler.addr = multiaddr(f"/unix{path}").to_bytes()
        request.streamHandler.proto.append(protocol)
        request.streamHandler.balanced = False
        await self._ask(self.peer_id, request)

    async def aclose(self) -> None:
        """Ends every stream and the process; may be called again."""
        if self._closing:
            return
        self._closing = True
        try:
            if self._server is not None:
                self._server.close()
            tasks = [task for task in self._tasks if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await _stop(self.p2p)
            await self._watcher
            self._held.close()

    async def _watch(self) -> None:
        code = await self.p2p._child.wait()
        self._ended.set()
        if not self._closing:
            logger.error("libp2p daemon ended peer=%s code=%s", self.peer_id, code)
        # Nobody answers these any more, and hivemind would leave their callers waiting.
        for call in list(self.p2p._client.control._pending_calls.values()):
            if not call.done():
                call.set_exception(ConnectionError("the libp2p daemon has ended"))

    def _request(self, kind: str) -> Any:
        return self._proto.Request(type=getattr(self._proto.Request, kind))

    async def _ask(self, peer: str, request: Any) -> Any:
        reply, (_, writer) = await self._exchange(peer, request)
        writer.close()
        return reply

    async def _exchange(self, peer: str, request: Any) -> tuple[Any, Connection]:
        try:
            reader, writer = await asyncio.open_unix_connection(self._control, limit=_READ_AHEAD)
        except OSError as error:
            raise Unreachable(peer, "our own libp2p daemon has ended") from error
        try:
            raw: bytes = request.SerializeToString()
            writer.write(delimited(raw))
            reply = self._proto.Response()
            reply.ParseFromString(await read_message(reader))
            if reply.type == self._proto.Response.ERROR:
                raise Unreachable(peer, plain(reply.error.msg))
        except (OSError, EOFError) as error:
            writer.close()
            raise Unreachable(peer, "our own libp2p daemon has ended") from error
        except BaseException:
            writer.close()
            raise
        return reply, (reader, writer)

    async def _open_to_ourselves(self, protocol: str) -> Connection:
        """A stream that p2pd never sees: libp2p does not dial itself, and lets its caller wait."""
        handler = self._handlers.get(protocol)
        if handler is None or self._closing:
            raise Unreachable(self.peer_id, f"does not serve {protocol}")
        near, far = socket.socketpair()
        ours = await asyncio.open_unix_connection(sock=near, limit=_READ_AHEAD)
        theirs = await asyncio.open_unix_connection(sock=far, limit=_READ_AHEAD)
        self._own(self._run(handler, self.peer_id, *theirs))
        return ours

    async def _run(
        self,
        handler: OnStream,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            await handler(peer, reader, writer)
        except Exception:
            logger.exception("stream handler failed")
        finally:
            writer.close()

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._own(self._dispatch(reader, writer))

    async def _dispatch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer_id = load("hivemind.p2p").PeerID
        try:
            stream = self._proto.StreamInfo()
            stream.ParseFromString(await read_message(reader))
            await self._handlers[stream.proto](peer_id(stream.peer).to_base58(), reader, writer)
        except (OSError, EOFError):
            logger.debug("stream ended before it began")
        except Exception:
            logger.exception("stream handler failed")
        finally:
            writer.close()


def _sweep() -> None:
    """Removes the socket folders of processes that were killed: nobody holds their lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        with suppress(ConfigError, OSError):
            # A folder is locked a moment after it is made.
            if time.time() - folder.stat().st_mtime > _SETTLED:
                with state.lock(folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _raise_files() -> None:
    """Lets this process have enough open files, as far as the system allows."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit.
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _stop(p2p: Any) -> None:
    """Ends p2pd and everything that hivemind runs for it."""
    control = p2p._client.control if p2p._client is not None else None
    tasks = [p2p._reader_task, p2p._listen_task]
    if control is not None:
        tasks += [control._read_task, control._write_task, *control._handler_tasks.values()]
    p2p._terminate()
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    if p2p._child is None:
        return
    try:
        async with asyncio.timeout(_STOP_TIMEOUT):
            await p2p._child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            p2p._child.kill()
        await p2p._child.wait()


def _owned(
    folder: Path, on_made: Callable[[Any], None], on_sent: Callable[[int], None] | None
) -> Any:
    """hivemind's `P2P`, as a class whose process and calls are ours to limit, count and end."""
    hivemind = load("hivemind.p2p")

    class OwnedP2P(hivemind.P2P):  # type: ignore[misc, name-defined]
        _UNIX_SOCKET_PREFIX = f"/unix{folder}/"

        def __init__(self) -> None:
            super().__init__()
            on_made(self)
            self._allowances: Allowances[str] = Allowances(_CALLS_RATE, _CALLS_BURST)

        async def add_protobuf_handler(
            self, name: str, handler: _OnCall, *args: Any, **kwargs: Any
        ) -> None:
            limited = _limited(handler, self._allowances, on_sent)
            await super().add_protobuf_handler(name, limited, *args, **kwargs)

        async def call_protobuf_handler(
            self, peer_id: Any, name: str, message: Any, *args: Any, **kwargs: Any
        ) -> Any:
            if self._child.returncode is not None:
                raise hivemind.P2PDaemonError("the libp2p daemon has ended")
            if on_sent is not None:
                on_sent(message.ByteSize())
            return await super().call_protobuf_handler(peer_id, name, message, *args, **kwargs)

        @staticmethod
        def _make_process_args(*args: Any, **kwargs: Any) -> list[str]:
            plain = hivemind.P2P._make_process_args(*args, **kwargs)
            return [sys.executable, "-I", "-S", "-c", _OWN_PROCESS_GROUP, *plain]

    return OwnedP2P


def _limited(
    handler: _OnCall, allowances: Allowances[str], on_sent: Callable[[int], None] | None
) -> _OnCall:
    """The handler of a call, for those who do not call too often."""

    async def answer(request: Any, context: Any) -> Any:
        caller = context.remote_id.to_base58()
        if not allowances.spend(caller, 1.0, asyncio.get_running_loop().time()):
            raise Unreachable(caller, "calls too often")
        reply = await handler(request, context)
        if on_sent is not None:
            on_sent(reply.ByteSize())
        return reply

    return answer
