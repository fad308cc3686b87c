"""What a peer says of itself to the group."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from swarm import __version__
from swarm.checkpoint import Checkpoint
from swarm.directory import Announcement, State

from . import devices
from .load import Speed

if TYPE_CHECKING:
    from .service import Peer


def announcement(peer: Peer, checkpoint: Checkpoint, state: State, digests: bytes) -> Announcement:
    """What a peer says of itself now; `digests` are those of its blocks."""
    # What is being handed over for a pause is nobody's to count on.
    hosting = None if peer.paused else peer.hosting
    speed = hosting.speed if hosting else Speed(0.0, 0.0)
    member, taking, (start, end) = peer.member, peer.taking, peer.span
    return Announcement(
        peer=member.peer_id,
        name=peer.config.name,
        model=checkpoint.fingerprint,
        model_name=checkpoint.name,
        num_blocks=checkpoint.num_blocks,
        start=start,
        end=end,
        state=state,
        decode_seconds=speed.decode_seconds,
        prefill_seconds=speed.prefill_seconds,
        free_positions=hosting.free_positions if hosting else 0,
        total_positions=hosting.total_positions if hosting else 0,
        capacity=0 if peer.config.blocks else end - start,
        dtype=str(taking.dtype).removeprefix("torch."),
        device=str(taking.device),
        addresses=member.transport.addresses,
        version=__version__,
        time=time.time(),
        reach=member.transport.reach,
        queue_seconds=speed.queue_seconds,
        upload_rate=peer.neighbours.upload_rate,
        quantize=taking.form,
        digests=digests if hosting else b"",
        num_sessions=peer.num_sessions,
        num_positions=peer.tally.work.num_positions,
        used_bytes=devices.taken_memory(taking.device, daemons=False),
        memory_bytes=taking.total_memory,
        resumes=peer.pause.resumes if peer.pause else 0.0,
        **(peer.metering.announced if peer.metering is not None else {}),
    )
