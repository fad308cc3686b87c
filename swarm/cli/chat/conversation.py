"""What has been said so far, as the model is shown it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Turn:
    """A question and its answer, exactly as the model wrote it; `whole` unless it was stopped."""

    asked: str
    answer: str
    whole: bool = True


@dataclass
class Conversation:
    """Turns in order, after what the `system` message says, if there is any."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)

    def messages(self, asked: str | None = None) -> list[dict[str, str]]:
        """All of it as `role` and `content`, with the next question at the end if there is one."""
        told = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            told.append({"role": "user", "content": turn.asked})
            told.append({"role": "assistant", "content": turn.answer})
        if asked is not None:
            told.append({"role": "user", "content": asked})
        return told

    def take_back(self) -> Turn | None:
        """Removes the last turn and returns it; None where there is none."""
        return self.turns.pop() if self.turns else None

    def drop(self, number: int) -> int:
        """Forgets so many of the oldest turns; returns how many there were to forget."""
        dropped = len(self.turns[:number])
        del self.turns[:dropped]
        return dropped
