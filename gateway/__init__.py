"""The HTTP gateway: other programs' APIs, answered by the swarm."""

from __future__ import annotations
