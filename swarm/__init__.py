"""Homeswarm: a group of home PCs runs a large language model together.

This package is the shared core: identities, groups, transport, the directory, wire messages,
checkpoints, errors and the command line. `swarm.peer` runs blocks, `swarm.client` asks for
text, `swarm.bootstrap` is a group's entry point.
"""

__version__ = "0.1.0"
