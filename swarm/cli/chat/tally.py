"""What a conversation takes."""

from __future__ import annotations

from dataclasses import dataclass

from .answering import Answer


@dataclass
class Tally:
    """What this conversation took so far."""

    num_answers: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    num_prompt: int = 0
    num_cached: int = 0
    num_mended: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0

    def add(self, answer: Answer) -> None:
        """Counts an answer that is over."""
        reply = answer.reply
        self.num_answers += 1
        self.num_tokens += len(reply.ids)
        self.seconds += reply.prefill_seconds + reply.decode_seconds
        self.num_prompt += len(reply.prompt_ids)
        self.num_cached += reply.num_cached
        self.num_mended += reply.num_recoveries
        self.sent_bytes += answer.sent_bytes
        self.received_bytes += answer.received_bytes

    def told(self) -> str:
        """For people."""
        took = f"in {self.seconds:.1f} s"
        if self.seconds:
            took += f", {self.num_tokens / self.seconds:.1f} each second"
        return (
            f"Answers: {self.num_answers}, of {self.num_tokens} tokens {took}\n"
            f"{self.num_prompt} tokens in prompts, {self.num_cached} of them kept by the peers\n"
            f"Routes mended: {self.num_mended}\n"
            f"{self.sent_bytes:,} bytes sent, {self.received_bytes:,} received"
        )
