# One command for each thing a person does here. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Compiled imports are four times faster; a parent shell may have switched them off.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment is rebuilt when a lock changes, and only then. The lock is whole, so nothing is
# resolved here: an older pip would look at newer versions, which have no hash, and give up.
.venv/installed: requirements.txt requirements-dev.txt pyproject.toml publisher/pyproject.toml
	@test -n "$(PYTHON)" || { echo "python3.11 was not found; install it or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up .venv (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e publisher
	@$(BIN)/python -m pip check --quiet
	@$(BIN)/python -m compileall -q -j 0 .venv/lib src publisher/src || true
	@touch $@

setup: .venv/installed ## make .venv from the hashed locks

demo: .venv/installed ## one copy, end to end, on this machine (FAULT=copy-fails shows the other road, LOCATION=us another place)
	@$(BIN)/python -m local_cloud demo --copy-seconds $(or $(COPY_SECONDS),5) --location $(or $(LOCATION),us-central1) $(if $(FAULT),--fault $(FAULT))

up: .venv/installed ## keep everything running until Ctrl-C; prints what to export
	@exec $(BIN)/python -m local_cloud up $(if $(CHECK_TOKENS),--check-tokens)

# Three at a time on two processors: many tests wait for sockets and processes.
test: .venv/installed ## every test
	@$(BIN)/python -m pytest -q -n $(or $(PROCESSES),3) --dist worksteal

# One test of the crashes takes more than a minute: every crash is a history of its own.
test-firestore: .venv/installed ## what has a store, over Google's Firestore emulator in its place (a quarter of an hour)
	@# In parts: each has an emulator of its own, which keeps in memory all that it was ever given.
	@for part in "tests/contract/test_job_store*.py tests/unit/test_workflow.py tests/unit/test_ticks.py" \
		tests/integration tests/e2e tests/fault; do \
		$(BIN)/python -m pytest -q --store=firestore --timeout=600 $$part || exit; done

golden: .venv/installed ## the golden messages: what comes in, verdict, reply, letter
	@PYTHONPATH=tests $(BIN)/python -m golden table

contracts: .venv/installed ## write what is generated: schemas, expectations, the tables in docs; read the diff
	@PYTHONPATH=tests $(BIN)/python -m golden write
	@PYTHONPATH=tests $(BIN)/python -m contract.pubsub.page
	@$(BIN)/python -m local_cloud.vertex_tables docs/local-cloud.md

soak-input: .venv/installed ## anything at all at the worker, COUNT=100000 times; counts by verdict
	@$(BIN)/python tests/ordeal.py --count $(or $(COUNT),100000) --seed $(or $(SEED),1)

bench-publish: .venv/installed ## start to published: model-copy, gcloud, a bare script; medians and ratios
	@$(BIN)/python benchmarks/publish.py --runs $(or $(RUNS),11)

show-publisher: .venv/installed ## COUNT=1000 requests from a file, killed and run again: nothing lost, nothing twice
	@PYTHONPATH=tests $(BIN)/python tests/show_publisher.py --count $(or $(COUNT),1000)

show-dead-letters: .venv/installed ## fifty failed requests: seen, repaired, replayed, dropped and restored, all accounted for
	@PYTHONPATH=tests $(BIN)/python tests/show_dead_letters.py night

show-replays: .venv/installed ## COUNT=500 letters: their replay killed ten times, then two at once; nothing twice, none lost
	@PYTHONPATH=tests $(BIN)/python tests/show_dead_letters.py replays --count $(or $(COUNT),500)

trials: .venv/installed ## public reports, replayed on real processes: what a correct copier does, and whether this one does
	@PYTHONPATH=tests $(BIN)/python -m trials $(ONLY)

test-airflow: .venv/installed ## the Airflow operator in real Airflow, in an environment of its own (.airflow)
	@PYTHONPATH=tests $(BIN)/python tests/with_airflow/check.py

try-wheel: .venv/installed ## the publisher's wheel, in an empty environment
	@PYTHONPATH=tests $(BIN)/python tests/try_wheel.py

bench-pubsub: .venv/installed ## start and pushes a second of the local Pub/Sub, beside Google's emulator
	@PYTHONPATH=tests $(BIN)/python benchmarks/pubsub.py

mutants: .venv/installed ## break each rule of the engine, and see what finds it
	@$(BIN)/python tests/model/mutants.py --most $(or $(MOST),3000)

soak: .venv/installed ## random histories of the engine, COUNT=100000 of them from SEED=1
	@$(BIN)/python tests/model/soak.py --count $(or $(COUNT),100000) --seed $(or $(SEED),1)

chaos: .venv/installed ## REQUESTS=1000, two workers killed and stopped; SEED=1, PUBSUB=google, STORE=firestore
	@$(BIN)/python tests/chaos/run.py --requests $(or $(REQUESTS),1000) --seed $(or $(SEED),1) \
		--pubsub $(or $(PUBSUB),local) --store $(or $(STORE),sqlite) $(if $(MUTANT),--mutant "$(MUTANT)")

restore-drill: .venv/installed ## backup, kill, restore, SQLite to Firestore and back, under load; COUNT=40 SEED=1
	@$(BIN)/python tests/restore_drill/run.py --count $(or $(COUNT),40) --seed $(or $(SEED),1)

words: .venv/installed ## how plainly docs and help speak: idioms for each thousand words, longest test names
	@$(BIN)/python tools/words.py

flood: .venv/installed ## COUNT=20000 requests of one sender, PART=fair|in-flight|large or all: fairness and memory
	@$(BIN)/python tools/flood.py --count $(or $(COUNT),20000) $(if $(PART),--part $(PART))

bench-rest: .venv/installed ## CALLERS=2000 wait at once on one process, beside FastAPI and Model.copy
	@$(BIN)/python benchmarks/rest.py --callers $(or $(CALLERS),2000)

bench-follow: .venv/installed ## what following copies gains and costs
	@$(BIN)/python benchmarks/follow.py

bench-reads: .venv/installed ## COUNT=2000 copies in flight before a quota of 600 reads a minute
	@$(BIN)/python benchmarks/reads.py --count $(or $(COUNT),2000)

lint: .venv/installed ## linters, types and import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy src publisher/src tests benchmarks tools deploy/checks main.py
	@$(BIN)/lint-imports

check-deploy: .venv/installed ## Terraform, image and scripts in deploy/, without Google
	@$(BIN)/python -m deploy.checks

provider-facts: .venv/installed ## what the Google provider takes, anew from npm; after new kinds of resources
	@$(BIN)/python -m deploy.checks.facts

try-image: .venv/installed ## the Dockerfile's own steps without an engine, and the worker that comes of them
	@PYTHONPATH=tests:. GRPC_ENABLE_FORK_SUPPORT=false $(BIN)/python tests/try_image.py

.audit/installed: requirements-audit.txt
	@test -x .audit/bin/python || $(PYTHON) -m venv .audit
	@.audit/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-audit.txt
	@touch $@

sbom: .audit/installed ## what the service is made of, as CycloneDX: sbom.json
	@.audit/bin/python -W ignore -m cyclonedx_py requirements requirements.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON -o sbom.json
	@echo "sbom.json"

audit: .venv/installed .audit/installed ## known vulnerabilities of the locks; needs an advisory service, and says so
	@$(BIN)/python -m deploy.checks.audit requirements.txt requirements-dev.txt

check: lint check-deploy test ## what CI runs

format: .venv/installed ## rewrite the code the way the linters want it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Generated, never edited. UPGRADE=1 takes newer versions.
UV_COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11 \
	--universal --no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
lock: ## write requirements*.txt anew from pyproject.toml
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	@$(UV_COMPILE) pyproject.toml -o requirements.txt
	@$(UV_COMPILE) pyproject.toml publisher/pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt
	@$(UV_COMPILE) --group audit -o requirements-audit.txt

clean: ## remove what was made here
	@rm -rf .venv .airflow .audit .local sbom.json .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Every target with a description is a command, not a file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(MAKEFILE_LIST))
