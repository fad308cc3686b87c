"""What was measured in one setting of the box, beside the least that the setting allows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from swarm.client.benchmark.limits import FrameSize, Leg, decode_limit, prefill_limit

from .asker import ECHO, SHORT, Measured, Prompt, Written
from .box import Setting

FRAME_BYTES = 120
"""Of a frame beside hidden states, as it leaves the client."""


@dataclass(frozen=True)
class Reached:
    """Seconds: the median that was measured, and the limit."""

    seconds: float
    limit: float

    @property
    def ratio(self) -> float:
        """1 is the limit itself; what is slower is below."""
        return self.limit / self.seconds


@dataclass(frozen=True)
class Row:
    """All of one setting; `prompts` by length, `passed` what the router saw, `written` texts."""

    setting: Setting
    decode: Reached
    first_token: Reached
    echo: Reached
    prompts: dict[int, Reached]
    recoveries: int
    passed: dict[str, float]
    written: list[Written]

    def to_json(self) -> dict[str, Any]:
        """Plain values; seconds."""
        return {
            "setting": asdict(self.setting),
            "decode": _plain(self.decode),
            "first_token": _plain(self.first_token),
            "echo_16k": _plain(self.echo),
            "prompts": {str(length): _plain(reached) for length, reached in self.prompts.items()},
            "recoveries": self.recoveries,
            "passed": self.passed,
            "written": {each.text: {"off": each.off, "on": each.on} for each in self.written},
        }


def row(setting: Setting, measured: Measured, num_cores: int, passed: dict[str, float]) -> Row:
    """What was reached, and what could have been."""
    position_bytes = 2 * measured.hidden_size
    if measured.prompts:
        longest = max(measured.prompts, key=lambda prompt: prompt.length)
        position_bytes = longest.sent // longest.length
    frame = FrameSize(position_bytes, FRAME_BYTES)
    steps = [
        Leg(setting.one_way, setting.slowest, seconds)
        for seconds in (*measured.hops, measured.client)
    ]
    first = decode_limit(steps, frame)
    prompts = {
        prompt.length: Reached(
            statistics.median(prompt.seconds),
            _prompt_limit(prompt, prompt.length, setting, measured, frame, num_cores),
        )
        for prompt in measured.prompts
    }
    if measured.prompts:
        shortest = min(measured.prompts, key=lambda prompt: prompt.length)
        first = _prompt_limit(shortest, SHORT, setting, measured, frame, num_cores)
    return Row(
        setting,
        Reached(statistics.median(measured.steps), decode_limit(steps, frame)),
        # Every hop is asked at once whether it takes the session.
        Reached(statistics.median(measured.first_token), 2 * setting.one_way + first),
        Reached(statistics.median(measured.echo), 2 * (setting.one_way + ECHO / setting.slowest)),
        prompts,
        measured.recoveries,
        passed,
        measured.written,
    )


def _prompt_limit(
    prompt: Prompt,
    length: int,
    setting: Setting,
    measured: Measured,
    frame: FrameSize,
    num_cores: int,
) -> float:
    """The pipeline's own time, or the cores', if all machines of the box have too few of them."""
    chunk_len = min(measured.chunk_len, prompt.length)
    per_position = [seconds / chunk_len for seconds in prompt.hops]
    legs = [
        *(Leg(setting.one_way, setting.slowest, 0.0, each) for each in per_position),
        Leg(setting.one_way, setting.slowest, measured.client),
    ]
    trips = setting.one_way * len(legs)
    shared = trips + sum(per_position) * length / num_cores + measured.client
    return max(prefill_limit(legs, frame, length, measured.chunk_len), shared)


def _plain(reached: Reached) -> dict[str, float]:
    return {"seconds": reached.seconds, "limit": reached.limit, "ratio": reached.ratio}


def by_rate(rows: Sequence[Row]) -> dict[float, list[Row]]:
    """Rows of each uplink, with growing round trips."""
    rates: dict[float, list[Row]] = {}
    for each in sorted(rows, key=lambda each: (each.setting.uplink, each.setting.rtt)):
        rates.setdefault(each.setting.uplink, []).append(each)
    return rates
