"""What a benchmark found, as it is written to JSON: medians, in the unit that a name ends in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class HopResult:
    """One hop, and the milliseconds of a decode step that it computed and let wait."""

    name: str
    start: int
    end: int
    compute_ms: float
    queue_ms: float


@dataclass(frozen=True)
class StepResult:
    """Where the time of one decode step goes, in milliseconds.

    `client_ms` is embedding, head and the choice of the token. `wire_ms` is what remains: all trips
    with everything that is done to send and receive. `overhead_per_hop_ms` is all but compute and
    the client's part, for one hop.
    """

    whole_ms: float
    compute_ms: float
    queue_ms: float
    wire_ms: float
    client_ms: float
    overhead_per_hop_ms: float


@dataclass(frozen=True)
class Aggregate:
    """All tokens per second of so many sessions that decode side by side."""

    sessions: int
    tokens_per_second: float


@dataclass(frozen=True)
class LinkBytes:
    """Bytes that went from one member to the next for one token.

    Where it was not `measured` it is the first link's number and what hops add to a frame.
    """

    sender: str
    receiver: str
    bytes_per_token: float
    measured: bool


@dataclass(frozen=True)
class Memory:
    """Resident megabytes of one process, now and at most so far, and those of its libp2p daemon."""

    name: str
    resident_mb: float
    peak_mb: float | None
    daemon_mb: float


@dataclass(frozen=True)
class Reference:
    """Plain transformers in the same run, and how many times as fast the swarm is.

    `sessions_ratio` is the aggregate of so many sessions over one stream of transformers.
    """

    decode_tokens_per_second: float
    prefill_tokens_per_second: float
    decode_ratio: float
    prefill_ratio: float
    sessions_ratio: dict[str, float]


@dataclass(frozen=True)
class Bandwidth:
    """What reading the weights alone would cost a decode step.

    `fraction` is that time over the whole step's: 1 would be a step that only reads.
    """

    gigabytes_per_second: float
    megabytes_per_token: float
    limit_ms: float
    limit_tokens_per_second: float
    fraction: float


@dataclass(frozen=True)
class Result:
    """Everything that one run found.

    `threads` are those of each process that the benchmark started; None where it joined others.
    """

    model: str
    dtype: str
    quantize: str | None
    threads: int | None
    prompt_len: int
    decode_tokens_per_second: float
    first_token_ms: float
    prefill_tokens_per_second: float
    aggregate: list[Aggregate]
    hops: list[HopResult]
    step: StepResult
    links: list[LinkBytes]
    memory: list[Memory] = field(default_factory=list)
    reference: Reference | None = None
    bandwidth: Bandwidth | None = None
    recoveries: int = 0
