"""A swarm of processes, the killer, and what must be true at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import group
import psutil
from greedy import undisturbed
from group import Being, Place, Runner, Trouble
from plan import ON_CLIENTS, Action, Kind, Span, draw, victims
from rich.console import Console
from tally import Tally

from swarm.background import background
from swarm.errors import SwarmError
from swarm.invite import Invite
from swarm.member import JoinConfig, Member, join

NUM_BLOCKS = 30
PEERS: dict[str, Span] = {
    "a": (0, 10),
    "b": (10, 20),
    "c": (20, 30),
    "d": (0, 12),
    "e": (8, 22),
    "f": (18, 30),
}
"""Every block twice, with borders that differ: any one peer may go, and many a pair. Every route
takes three hops, so that nobody stands by unused."""

CLIENTS = ("x", "y")

ANSWER_LEN = 48
_LOOK = 0.5
_KNOWN = 2.0
"""Seconds for which a peer must have been announced until the others may go: what clients have
looked up is used for one second."""

_TURN = 10.0
"""Seconds that an action waits for its turn before it is left out."""

_HEALING = 90.0
_LAST_REPLIES = 150.0
_SETTLING = 20.0

_EMPTY = ("sessions", "openings", "leased_pages", "used_pages", "waiting", "rows", "queued_steps")
_SHOWN = ("tasks", "fds", "p2pd_fds", "links", "streams", "sessions", "used_pages")
_TASKS_PER_LINK = 4
"""Who keeps it, sender, receiver, heart."""

_TOLERANCE = {"tasks": 6, "fds": 4, "p2pd_fds": 24}
"""Lookups and greetings come and go: a few tasks and files of a moment. p2pd keeps connections to
whom it has met in the DHT for a while, each with a file."""


@dataclass(frozen=True)
class Settings:
    """How long, which plan, where, with which model."""

    seconds: float
    seed: int
    folder: Path
    model: Path


class Chaos:
    """One run; `run` returns what was wrong, and `tally` knows the rest."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self.settings = settings
        self.tally = Tally()
        self._console = console
        self._place = Place(settings.folder, settings.model)
        self._started = time.time()
        self._bootstrap = group.bootstrap(self._place)
        self._peers: dict[str, Runner] = {}
        self._clients: dict[str, Runner] = {}
        self._ids: dict[str, str] = {}
        self._doomed: dict[str, float] = {}
        self._known_since: dict[str, float] = {}
        self._busy: set[str] = set()
        self._over = asyncio.Event()

    async def run(self) -> list[str]:
        """Starts all, breaks things for a while, heals, counts, and takes all down."""
        try:
            async with background() as tasks:
                await self._run(tasks)
        except (Trouble, SwarmError, TimeoutError) as error:
            self._problem(f"{type(error).__name__}: {error}")
        finally:
            await self._take_down()
        self._read_logs()
        return self.tally.problems

    async def _run(self, tasks: asyncio.TaskGroup) -> None:
        answers = self._place.folder / "answers.json"
        expected = tasks.create_task(
            asyncio.to_thread(undisturbed, self.settings.model, ANSWER_LEN)
        )
        self._place.invite = await self._first_start(self._bootstrap)
        self._peers = {n: group.peer(self._place, n, span) for n, span in PEERS.items()}
        lines = await asyncio.gather(*(self._first_start(peer) for peer in self._peers.values()))
        self._ids = {name: line.split()[-1] for name, line in zip(PEERS, lines, strict=True)}
        answers.write_text(json.dumps(await expected))
        place = JoinConfig(
            asks=True,
            host="127.0.0.1",
            map_port=False,
            state_folder=self._place.folder / "observer",
        )
        async with join(Invite.decode(self._place.invite), place) as observer:
            tasks.create_task(self._watch(observer))
            await self._until(lambda: len(self._available()) == len(PEERS), "everybody is known")
            baseline = {name: await peer.census() for name, peer in self._peers.items()}
            self._clients = {
                name: group.client(self._place, name, answers, self.settings.seed + number)
                for number, name in enumerate(CLIENTS)
            }
            async with asyncio.TaskGroup() as clients:
                for client in self._clients.values():
                    clients.create_task(self._keep_client(client))
                await self._until(self._clients_are_up, "the clients have joined")
                async with asyncio.TaskGroup() as hits:
                    await self._kill_for_a_while(hits)
                    self._over.set()
                    self._say("healing")
                await self._until(lambda: len(self._available()) == len(PEERS), "all serve again")
                await self._until(self._clients_are_up, "the clients are back")
                for client in self._clients.values():
                    client.send(signal.SIGUSR2)
                deadline = asyncio.get_running_loop().call_later(_LAST_REPLIES, self._give_up)
            deadline.cancel()
            await self._count(baseline)

    async def _first_start(self, runner: Runner) -> str:
        await runner.start()
        return await runner.ready()

    # The killer

    async def _kill_for_a_while(self, hits: asyncio.TaskGroup) -> None:
        end = time.monotonic() + self.settings.seconds
        for action in draw(self.settings.seed, PEERS, CLIENTS):
            await asyncio.sleep(min(action.after, max(0.0, end - time.monotonic())))
            if time.monotonic() >= end:
                return
            if not (chosen := await self._allowed(action, end)):
                self.tally.skipped += 1
                self._say(f"skipped {action.kind}")
                continue
            self._say(f"{action.kind} {'+'.join(chosen)} away={action.away:.1f}")
            self.tally.did(action.kind, "+".join(chosen))
            for number, name in enumerate(chosen):
                self._busy.add(name)
                hits.create_task(self._hit(action, name, number))

    async def _allowed(self, action: Action, end: float) -> tuple[str, ...]:
        """Whom the action may take, as soon as it may take somebody; empty if that takes long."""
        end = min(end, time.monotonic() + _TURN)
        with contextlib.suppress(Trouble):
            await self._until(lambda: bool(self._choose(action)), "there is a turn", end)
        return self._choose(action)

    def _choose(self, action: Action) -> tuple[str, ...]:
        if action.kind is Kind.BOOTSTRAP:
            return ("bootstrap",) if "bootstrap" not in self._busy else ()
        if action.kind in ON_CLIENTS:
            # Somebody goes on asking: what is done to peers while nobody asks shows nothing.
            asking = [n for n, c in self._clients.items() if c.being is Being.UP]
            free = [n for n in action.order if n in asking and n not in self._busy]
            return tuple(free[:1]) if len(asking) == len(CLIENTS) else ()
        touchable = [n for n in PEERS if n not in self._busy and self._peers[n].being is Being.UP]
        in_use = [n for n, peer in self._ids.items() if peer in self.tally.in_use]
        return victims(action, self._available(), touchable, NUM_BLOCKS, in_use)

    async def _hit(self, action: Action, name: str, number: int) -> None:
        """Does it to one process and brings that back; the process is nobody else's meanwhile."""
        kind = action.kind
        if kind is Kind.TWO:
            kind = Kind.FREEZE if number and action.second_freezes else Kind.KILL
        try:
            if kind in ON_CLIENTS:
                await self._hit_client(kind, self._clients[name], action.away)
            elif kind in (Kind.FREEZE, Kind.HANG, Kind.SLEEP):
                await self._freeze(self._peers[name], action.away, family=kind is not Kind.HANG)
            elif kind is Kind.DAEMON:
                await self._lose_daemon(self._peers[name])
            else:
                runner = self._bootstrap if kind is Kind.BOOTSTRAP else self._peers[name]
                await self._end(kind, runner)
                if kind is Kind.TWICE:
                    await runner.start()
                    await self._away(action.away)
                    await runner.kill()
                await self._away(action.away)
                await self._first_start(runner)
                self._say(f"back {name}")
        except Trouble as error:
            self._problem(str(error))
        finally:
            self._busy.discard(name)

    async def _end(self, kind: Kind, runner: Runner) -> None:
        if kind is Kind.LEAVE:
            await runner.leave()
        else:
            await runner.kill()

    async def _lose_daemon(self, runner: Runner) -> None:
        """Kills its p2pd alone: it gets another one by itself, and says again that it serves."""
        runner.being = Being.STARTING
        for child in runner.family[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        await runner.ready()
        self._say(f"back {runner.name}")

    async def _freeze(self, runner: Runner, seconds: float, *, family: bool) -> None:
        runner.freeze(family=family)
        await self._away(seconds)
        runner.thaw()
        self._say(f"thawed {runner.name}")

    async def _hit_client(self, kind: Kind, client: Runner, away: float) -> None:
        if kind is Kind.CLIENT_FREEZE:
            await self._freeze(client, away, family=True)
            return
        self._doomed[client.name] = away
        client.remember()
        client.being = Being.DOWN
        client.send(signal.SIGKILL if kind is Kind.CLIENT_KILL else signal.SIGTERM)

    async def _away(self, seconds: float) -> None:
        """Waits, at most until the chaos is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    # Clients

    async def _keep_client(self, client: Runner) -> None:
        """Starts a client, hears what it says, and starts it again until it may finish."""
        finished = False
        while not finished:
            await client.start()
            finished = joined = False
            async for said in group.told(client):
                client.remember()
                if said["kind"] == "joined":
                    client.being, joined = Being.UP, True
                elif said["kind"] == "census":
                    finished = self._over.is_set()
                    self._check_client(client.name, said)
                for text in self.tally.hear(client.name, said):
                    self._say(text)
            code = await client.ended()
            away = self._doomed.pop(client.name, None)
            self.tally.lose(client.name, on_purpose=away is not None)
            if away is None and joined and not finished:
                self._problem(f"client {client.name} ended by itself with code {code}")
            elif away is not None and code not in (0, -signal.SIGKILL):
                self._problem(f"client {client.name} left with code {code}")
            await self._away(away if away is not None else 1.0)

    def _check_client(self, name: str, said: dict[str, Any]) -> None:
        self._say(f"client {name} holds " + " ".join(f"{k}={v}" for k, v in said.items()))
        if said["receivers"]:
            self._problem(f"client {name} keeps {said['receivers']} receivers of ended sessions")
        if said["streams"] != said["links"]:
            self._problem(f"client {name} has {said['streams']} streams for {said['links']} links")

    def _clients_are_up(self) -> bool:
        return all(
            client.being is Being.UP and name not in self._doomed
            for name, client in self._clients.items()
        )

    def _give_up(self) -> None:
        for name, client in self._clients.items():
            if client.being is not Being.DOWN:
                self._problem(f"client {name} did not come to its end")
                self._doomed[name] = 0.0
                client.send(signal.SIGKILL)

    # Who is there

    async def _watch(self, observer: Member) -> None:
        """Notes since when each peer is known to serve, as an outsider sees it."""
        while True:
            with contextlib.suppress(SwarmError):
                found = {entry.name: entry for entry in await observer.directory.find()}
                for name, peer in self._peers.items():
                    entry = found.get(name)
                    if entry is None or not entry.serving or entry.time <= peer.since:
                        self._known_since.pop(name, None)
                    else:
                        self._known_since.setdefault(name, time.monotonic())
            await asyncio.sleep(_LOOK)

    def _available(self) -> dict[str, Span]:
        now = time.monotonic()
        return {
            name: PEERS[name]
            for name, peer in self._peers.items()
            if peer.being is Being.UP and now - self._known_since.get(name, now) >= _KNOWN
        }

    async def _until(
        self, reached: Callable[[], bool], what: str, deadline: float | None = None
    ) -> None:
        started = time.monotonic()
        deadline = deadline if deadline is not None else started + _HEALING
        while not reached():
            if time.monotonic() > deadline:
                raise Trouble(f"waited {deadline - started:.0f} s in vain until {what}")
            await asyncio.sleep(0.1)

    # The end

    async def _count(self, baseline: dict[str, dict[str, int]]) -> None:
        """Everybody must come to hold nothing, within seconds."""
        started = time.monotonic()
        for name, peer in self._peers.items():
            while True:
                now = await peer.census()
                left = _left_over(baseline[name], now)
                if not left or time.monotonic() - started > _SETTLING:
                    break
                await asyncio.sleep(0.5)
            shown = " ".join(f"{key}={baseline[name][key]}->{now[key]}" for key in _SHOWN)
            grown = (now["rss"] - baseline[name]["rss"]) / 1e6
            self._say(f"{name} holds {shown} rss={now['rss'] / 1e6:.0f}MB ({grown:+.0f})")
            if left:
                self._problem(f"{name} holds {left} {_SETTLING:g} s after the last reply")
        self._say(f"settled within {time.monotonic() - started:.1f} s")

    async def _take_down(self) -> None:
        everybody = [*self._clients.values(), *self._peers.values(), self._bootstrap]
        for runner in everybody:
            runner.remember() if runner.being is not Being.DOWN else None
            if runner.being is Being.FROZEN:
                runner.thaw()
        await asyncio.gather(*(self._stop(r) for r in everybody if r.being is not Being.DOWN))
        _, alive = await asyncio.to_thread(psutil.wait_procs, self._place.seen, timeout=10)
        for process in alive:
            self._problem(f"left behind: {process}")
            process.kill()

    async def _stop(self, runner: Runner) -> None:
        try:
            await runner.leave()
        except Trouble as error:
            if runner.name not in CLIENTS:
                self._problem(str(error))

    def _read_logs(self) -> None:
        """What a task's root has logged, it must not raise; here it counts as raised."""
        for log in sorted(self._place.folder.glob("*.log")):
            for line in log.read_text(errors="replace").splitlines():
                bad = " ERROR " in line or line.startswith("Traceback")
                if bad and "libp2p daemon ended" not in line:
                    self._problem(f"{log.name}: {line}")

    def _problem(self, text: str) -> None:
        self._say(f"PROBLEM {text}")
        self.tally.problems.append(text)

    def _say(self, text: str) -> None:
        line = f"{time.time() - self._started:6.1f} {text}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _left_over(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """What a peer has that it had not before the chaos, apart from open links."""
    left = {key: now[key] for key in _EMPTY if now[key]}
    if now["streams"] != now["links"]:
        left["streams"] = now["streams"] - now["links"]
    for key, per_link in (("tasks", _TASKS_PER_LINK), ("fds", 1), ("p2pd_fds", 2)):
        more = (now[key] - per_link * now["links"]) - (before[key] - per_link * before["links"])
        if more > _TOLERANCE[key]:
            left[key] = more
    return left
