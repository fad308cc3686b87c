"""A home network in a box: machines of this machine's own, with slow and distant lines."""
