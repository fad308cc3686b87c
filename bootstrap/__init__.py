"""The bootstrap: where a group is met, and the authority that admits its members."""
