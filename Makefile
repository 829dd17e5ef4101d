# Everything runs in .venv, which the first target you call creates. Only python3 and make are needed.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: help demo test quick check format endurance bench fuzz torture policies drill matrix extended-client lock clean

help:                ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(READY)       ## watch real messages cross, both ways (about a minute)
	$(BIN)/nats-sqs-bridge demo

test: $(READY)       ## every test, on real servers
	$(BIN)/python -m pytest -n 4 --dist worksteal

quick: $(READY)      ## the tests that need no server
	$(BIN)/python -m pytest -m "not server and not fuzz"

check: $(READY)      ## format, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: $(READY)     ## format the code and apply lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

endurance: $(READY)  ## 20,000 messages through ten SIGKILLs; 10,000 in order through three (some minutes)
	$(BIN)/python -m tests.endurance.kills
	$(BIN)/python -m tests.endurance.order

bench: $(READY)      ## the real daemon and the floor: pace, CPU, latency, memory (some minutes)
	$(BIN)/python -m benchmarks.run

fuzz: $(READY)       ## hostile messages, peers and bytes for a minute (SECONDS=600 for longer)
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

torture: $(READY)    ## 500 hostile messages among 5,000 good ones, each way, beside another route (some minutes)
	$(BIN)/python -m tests.endurance.torture

policies: $(READY)   ## filter policies against AWS's event-ruler, on 20,000 generated pairs (a minute; needs Java and Maven)
	$(BIN)/python -m tests.interop.policies

drill: $(READY)      ## stop either side in turn: how quickly page, status, metrics and alerts show it (needs prometheus)
	$(BIN)/python -m tests.endurance.drill

matrix: $(READY)     ## the JetStream conformance tests on nats-server 2.10 to 2.15 (a few minutes)
	$(BIN)/python -m tests.endurance.matrix

extended-client: $(READY) ## Amazon's extended client for Java, 1.0 and 2, and the bridge (needs Java 17 and Maven)
	$(BIN)/python -m tests.interop.extended_client

lock: $(READY)       ## update the pinned packages in requirements/
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade \
		--python-version 3.11 pyproject.toml --extra verify --extra otel -o requirements/run.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade \
		--python-version 3.11 pyproject.toml --extra demo --extra verify --extra otel --group dev -o requirements/dev.txt

clean:               ## delete the environment and the caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

# requirements/dev.txt pins every package by hash; `make lock` updates it.
$(READY): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nats-sqs-bridge needs Python 3.11 or newer; set PYTHON=")'
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)
