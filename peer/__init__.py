"""A peer: runs a span of blocks of a model for many sessions at once."""
