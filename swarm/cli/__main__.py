"""`python -m swarm.cli` is the `swarm` command."""

from . import main

if __name__ == "__main__":
    main()
