"""What became of one request, and where its time went; never what was asked or answered."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.client import HopTiming, RouteChange, Timing

from .answer import Answer, Source
from .events import Usage
from .refusals import Refusal

if TYPE_CHECKING:
    from swarm.client import Reply

_MOST_BYTES = 6000
"""Of a trace as JSON: programs take header lines of 8 KiB."""

_MOST_CHANGES = 8
_MOST_NAMES = 4
"""Of a trace's changes of the route, and of the peers in each, so that there is room for hops."""

_ODD = re.compile(r"[^\w.,:/@+{}-]", re.ASCII)


@dataclass
class Trace:
    """One request at an endpoint, from `started` on; times in seconds of the event loop's clock.

    `request` is what it is called, and `caller` whose it is.
    `asked` is the model that was asked for, once that is known to exist. An answer has `begun` with
    its first token. There are several `answers` where a request has several prompts.
    """

    endpoint: str
    started: float
    request: str = ""
    caller: str = ""
    asked: str = ""
    answers: list[Answer] = field(default_factory=list)
    begun: float = 0.0
    ended: float = 0.0
    refusal: Refusal | None = None
    _num_told: Counter[int] = field(default_factory=Counter)

    @property
    def answer(self) -> Answer | None:
        """The first one."""
        return self.answers[0] if self.answers else None

    @property
    def source(self) -> Source | None:
        """Who has answered."""
        return None if self.answer is None else self.answer.source

    @property
    def usage(self) -> Usage:
        """The tokens of it all."""
        return sum((answer.work.usage for answer in self.answers), Usage())

    @property
    def replies(self) -> tuple[Reply, ...]:
        """The choices that the swarm has made."""
        return tuple(reply for answer in self.answers for reply in answer.replies)

    @property
    def queued(self) -> float:
        """Seconds of waiting for its turn, the first one."""
        return 0.0 if self.answer is None else self.answer.queued

    @property
    def first_token(self) -> float:
        """Seconds from the request's arrival to the answer's first token; 0 without an answer."""
        return 0.0 if self.answer is None else self.begun - self.started

    @property
    def prefill(self) -> float:
        """Seconds that the swarm took over the prompt, for the choice that took longest."""
        return max((reply.prefill_seconds for reply in self.replies), default=0.0)

    @property
    def seconds_per_token(self) -> float | None:
        """Between one token and the next of a choice; None where none followed another."""
        num_choices = max(1, len(self.replies))
        following = self.usage.num_completion / num_choices - 1
        return (self.ended - self.begun) / following if self.answer and following > 0 else None

    @property
    def total_tokens(self) -> int:
        """New ones, of all choices that the swarm has made."""
        return sum(len(reply.ids) for reply in self.replies)

    @property
    def energy(self) -> tuple[float, str] | None:
        """Joules that the peers have spent on new tokens, and how that is known.

        None unless it is known of every choice.
        """
        told = [(reply.energy, len(reply.ids)) for reply in self.replies]
        if not told or any(energy is None for energy, _ in told):
            return None
        known = [(energy, number) for energy, number in told if energy is not None]
        sources = {energy.source for energy, _ in known}
        source = "estimate" if "estimate" in sources else "+".join(sorted(sources))
        return sum(energy.joules_per_token * number for energy, number in known), source

    def timing(self) -> Timing:
        """Where decode steps' time went, of all choices together."""
        whole = Timing()
        for reply in self.replies:
            whole.include(reply.timing)
        return whole

    def total(self, field: str) -> int:
        """The sum of a counter of the replies, such as `num_recoveries`."""
        return sum(getattr(reply, field) for reply in self.replies)

    def news(self) -> list[str]:
        """The changes of routes since this was asked last, each as JSON for programs."""
        told = []
        for choice, reply in enumerate(self.replies):
            fresh = reply.timing.changes[self._num_told[choice] :]
            self._num_told[choice] += len(fresh)
            told += [_compact(_change(change)) for change in fresh]
        return told

    def as_json(self) -> str:
        """For programs: compact, in ASCII, of limited length; what is per step is a mean."""
        told = self._told()
        text = _compact(told)
        while len(text) > _MOST_BYTES and told["hops"]:
            told["hops"].pop()
            told["hops_left_out"] = told.get("hops_left_out", 0) + 1
            text = _compact(told)
        return text

    def as_line(self, status: int) -> str:
        """For the log."""
        usage, rate = self.usage, self._tokens_per_second()
        route = ",".join(f"{hop.name}:{hop.start}-{hop.end}" for hop in self.timing().hops.values())
        fields = {
            "endpoint": self.endpoint,
            "status": status,
            "by": self.source or "nobody",
            "model": self.asked,
            "key": self.caller,
            "request": self.request,
            "seconds": f"{self.ended - self.started:.3f}",
            "queue": f"{self.queued:.3f}",
            "first": f"{self.first_token:.3f}",
            "prompt": usage.num_prompt,
            "cached": usage.num_cached,
            "tokens": usage.num_completion,
            "rate": f"{rate:.1f}" if rate else "",
            "recoveries": self.total("num_recoveries"),
            "handovers": self.total("num_handovers"),
            "drafted": self.total("num_drafted"),
            "accepted": self.total("num_accepted"),
            "route": route,
            "refused": self.refusal.reason if self.refusal else "",
        }
        return " ".join(f"{name}={_plain(value)}" for name, value in fields.items() if value != "")

    def server_timing(self) -> str:
        """What was known when the answer began (https://www.w3.org/TR/server-timing/), in ms."""
        parts = {"queue": self.queued, "prefill": self.prefill, "first": self.first_token}
        return ", ".join(f"{name};dur={seconds * 1e3:.1f}" for name, seconds in parts.items())

    def _tokens_per_second(self) -> float:
        """Of all choices together."""
        seconds = self.seconds_per_token
        return max(1, len(self.replies)) / seconds if seconds else 0.0

    def _told(self) -> dict[str, Any]:
        timing, usage = self.timing(), self.usage
        return {
            "by": self.source,
            "model": "" if self.answer is None else self.answer.model,
            "total_ms": _ms(self.ended - self.started),
            "queue_ms": _ms(self.queued),
            "first_token_ms": _ms(self.first_token),
            "prefill_ms": _ms(self.prefill),
            "tokens_per_second": round(self._tokens_per_second(), 2),
            "prompt": usage.num_prompt,
            "cached": usage.num_cached,
            "completion": usage.num_completion,
            "choices": len(self.replies),
            "recoveries": self.total("num_recoveries"),
            "handovers": self.total("num_handovers"),
            "speculation": {
                "steps": self.total("num_steps"),
                "drafted": self.total("num_drafted"),
                "accepted": self.total("num_accepted"),
            },
            **self._cost(),
            **_steps(timing),
            "changes": [_change(change) for change in timing.changes[-_MOST_CHANGES:]],
        }

    def _cost(self) -> dict[str, Any]:
        if (energy := self.energy) is None:
            return {"joules_per_token": None, "energy": ""}
        joules, source = energy
        each = round(joules / max(1, self.total_tokens), 4)
        return {"joules_per_token": each, "energy": source}


def _steps(timing: Timing) -> dict[str, Any]:
    """Decode steps: milliseconds of each part per step, and each part's share of the whole."""
    num_steps = max(1, timing.num_steps)
    hops = timing.hops.values()
    parts = {
        "queue": sum(hop.queue for hop in hops),
        "compute": sum(hop.compute for hop in hops),
        "wire": sum(hop.wire for hop in hops) + timing.back,
        "head": timing.head,
        "sampling": timing.sampling,
    }
    whole = sum(parts.values()) or 1.0
    return {
        "steps": timing.num_steps,
        "hops": [_hop(hop, whole) for hop in hops],
        "back_ms": _ms(timing.back / num_steps),
        "head_ms": _ms(timing.head / num_steps),
        "sampling_ms": _ms(timing.sampling / num_steps),
        "shares": {name: round(seconds / whole, 3) for name, seconds in parts.items()},
        "disturbed_steps": timing.num_disturbed,
        "disturbed_ms": _ms(timing.disturbed),
    }


def _hop(hop: HopTiming, whole: float) -> dict[str, Any]:
    return {
        "peer": hop.name,
        "blocks": [hop.start, hop.end],
        "steps": hop.num_steps,
        "queue_ms": _ms(hop.queue / hop.num_steps),
        "compute_ms": _ms(hop.compute / hop.num_steps),
        "wire_ms": _ms(hop.wire / hop.num_steps),
        "share": round((hop.queue + hop.compute + hop.wire) / whole, 3),
    }


def _change(change: RouteChange) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "tokens": change.num_tokens,
        "gone": change.gone[:_MOST_NAMES],
        "came": change.came[:_MOST_NAMES],
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def _compact(told: dict[str, Any]) -> str:
    return json.dumps(told, separators=(",", ":"))


def _plain(value: object) -> str:
    """One word of a log line, whatever a member calls itself."""
    return _ODD.sub("_", str(value))
