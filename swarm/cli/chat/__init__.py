"""`swarm chat`: a conversation with a group's swarm, on a terminal or line by line from a pipe."""

from .command import register

__all__ = ["register"]
