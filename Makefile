# One command for each task. `make help` shows the everyday ones, `make help-all` all of them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Compiled imports are four times faster; a parent shell may have switched them off.
unexport PYTHONDONTWRITEBYTECODE
EVERYDAY := demo|up|test|check|format|clean
LIST_TARGETS = awk -F ':.*\#\# ' '/^[a-z-]+:.*\#\# /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

help: ## show the everyday targets
	@$(LIST_TARGETS) | grep -E '^  make ($(EVERYDAY)) '
	@echo "  make help-all          show all targets"

help-all: ## show all targets
	@$(LIST_TARGETS)

# The environment is rebuilt only when a lock file changes. The lock is complete, so pip resolves
# nothing: an older pip would find newer versions, which have no hash, and fail.
.venv/installed: requirements.txt requirements-dev.txt pyproject.toml publisher/pyproject.toml
	@test -n "$(PYTHON)" || { echo "python3.11 was not found; install it, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up .venv (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e publisher
	@$(BIN)/python -m pip check --quiet
	@$(BIN)/python -m compileall -q -j 0 .venv/lib src publisher/src || true
	@touch $@

setup: .venv/installed ## create .venv from the hashed lock files; the other targets do this when needed

demo: .venv/installed ## run one copy from end to end on this machine; FAULT=copy-fails or lost-answer, LOCATION=us
	@$(BIN)/python -m local_cloud demo --copy-seconds $(or $(COPY_SECONDS),5) --location $(or $(LOCATION),us-central1) $(if $(FAULT),--fault $(FAULT))

up: .venv/installed ## run everything until Ctrl-C and print the variables to export; CHECK_TOKENS=1
	@exec $(BIN)/python -m local_cloud up $(if $(CHECK_TOKENS),--check-tokens)

# Three at a time on two processors: many tests wait for sockets and processes.
test: .venv/installed ## run all tests
	@$(BIN)/python -m pytest -q -n $(or $(PROCESSES),3) --dist worksteal

# One crash test takes more than a minute: it runs a history for each crash.
test-firestore: .venv/installed ## run the tests that use a store on Google's Firestore emulator (15 minutes)
	@# In parts, each with its own emulator: an emulator keeps all data in memory.
	@for part in "tests/contract/test_job_store*.py tests/unit/test_workflow.py tests/unit/test_ticks.py" \
		tests/integration tests/e2e tests/fault; do \
		$(BIN)/python -m pytest -q --store=firestore --timeout=600 $$part || exit; done

golden: .venv/installed ## print the golden messages: request, verdict, reply, dead letter
	@PYTHONPATH=tests $(BIN)/python -m golden table

contracts: .venv/installed ## regenerate schemas, expected messages and tables in docs; review the diff
	@PYTHONPATH=tests $(BIN)/python -m golden write
	@PYTHONPATH=tests $(BIN)/python -m contract.pubsub.page
	@$(BIN)/python -m local_cloud.vertex_tables docs/local-cloud.md

soak-input: .venv/installed ## send COUNT=100000 fuzzed messages to the worker; count the verdicts
	@$(BIN)/python tests/ordeal.py --count $(or $(COUNT),100000) --seed $(or $(SEED),1)

bench-publish: .venv/installed ## compare the time to publish: model-copy, gcloud, a bare script
	@$(BIN)/python benchmarks/publish.py --runs $(or $(RUNS),11)

show-publisher: .venv/installed ## publish COUNT=1000 requests from a file, killed and resumed: none lost, none doubled
	@PYTHONPATH=tests $(BIN)/python tests/show_publisher.py --count $(or $(COUNT),1000)

show-dead-letters: .venv/installed ## list, repair, replay, drop and restore fifty dead letters
	@PYTHONPATH=tests $(BIN)/python tests/show_dead_letters.py night

show-replays: .venv/installed ## replay COUNT=500 dead letters, killed ten times, then twice at once
	@PYTHONPATH=tests $(BIN)/python tests/show_dead_letters.py replays --count $(or $(COUNT),500)

trials: .venv/installed ## replay 47 public bug reports on real processes; ONLY="14 22" selects some
	@PYTHONPATH=tests $(BIN)/python -m trials $(ONLY)

test-airflow: .venv/installed ## test the Airflow operator in real Airflow, in its own environment (.airflow)
	@PYTHONPATH=tests $(BIN)/python tests/with_airflow/check.py

try-wheel: .venv/installed ## test the publisher's wheel in an empty environment
	@PYTHONPATH=tests $(BIN)/python tests/try_wheel.py

bench-pubsub: .venv/installed ## compare the local Pub/Sub with Google's emulator: start time, pushes per second
	@PYTHONPATH=tests $(BIN)/python benchmarks/pubsub.py

mutants: .venv/installed ## run mutation tests of the engine's rules; MOST=3000
	@$(BIN)/python tests/model/mutants.py --most $(or $(MOST),3000)

soak: .venv/installed ## run COUNT=100000 random histories of the engine from SEED=1
	@$(BIN)/python tests/model/soak.py --count $(or $(COUNT),100000) --seed $(or $(SEED),1)

chaos: .venv/installed ## copy REQUESTS=1000 models while two workers are killed and stopped; SEED=1, PUBSUB=google, STORE=firestore
	@$(BIN)/python tests/chaos/run.py --requests $(or $(REQUESTS),1000) --seed $(or $(SEED),1) \
		--pubsub $(or $(PUBSUB),local) --store $(or $(STORE),sqlite) $(if $(MUTANT),--mutant "$(MUTANT)")

restore-drill: .venv/installed ## back up, kill, restore, and move SQLite to Firestore and back, under load; COUNT=40 SEED=1
	@$(BIN)/python tests/restore_drill/run.py --count $(or $(COUNT),40) --seed $(or $(SEED),1)

words: .venv/installed ## count private idioms per thousand words of docs and help, and the longest test names
	@$(BIN)/python tools/words.py

flood: .venv/installed ## send COUNT=20000 requests of one sender; measure fairness and memory; PART=fair, in-flight, large or all
	@$(BIN)/python tools/flood.py --count $(or $(COUNT),20000) $(if $(PART),--part $(PART))

bench-rest: .venv/installed ## measure CALLERS=2000 concurrent waits on one process, beside FastAPI and Model.copy
	@$(BIN)/python benchmarks/rest.py --callers $(or $(CALLERS),2000)

bench-follow: .venv/installed ## measure the gain and the cost of following copies
	@$(BIN)/python benchmarks/follow.py

bench-reads: .venv/installed ## run COUNT=2000 concurrent copies under a quota of 600 reads per minute
	@$(BIN)/python benchmarks/reads.py --count $(or $(COUNT),2000)

lint: .venv/installed ## check format, lint rules, types and import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy src publisher/src tests benchmarks tools deploy/checks main.py
	@$(BIN)/lint-imports

check-deploy: .venv/installed ## check Terraform, image and scripts in deploy/, without Google
	@$(BIN)/python -m deploy.checks

provider-facts: .venv/installed ## update the schema of the Google Terraform provider from npm; run after adding a new kind of resource
	@$(BIN)/python -m deploy.checks.facts

try-image: .venv/installed ## run the steps of the Dockerfile without a container engine, and start the worker
	@PYTHONPATH=tests:. GRPC_ENABLE_FORK_SUPPORT=false $(BIN)/python tests/try_image.py

.audit/installed: requirements-audit.txt
	@test -x .audit/bin/python || $(PYTHON) -m venv .audit
	@.audit/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-audit.txt
	@touch $@

sbom: .audit/installed ## write the software bill of materials of the service: sbom.json (CycloneDX)
	@.audit/bin/python -W ignore -m cyclonedx_py requirements requirements.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON -o sbom.json
	@echo "sbom.json"

audit: .venv/installed .audit/installed ## check the lock files for known vulnerabilities; needs an advisory service
	@$(BIN)/python -m deploy.checks.audit requirements.txt requirements-dev.txt

check: lint check-deploy test ## run everything that CI runs: lint, check-deploy, test

format: .venv/installed ## format the code and apply automatic lint fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Generated, never edited. UPGRADE=1 takes newer versions.
UV_COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11 \
	--universal --no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
lock: ## regenerate requirements*.txt from pyproject.toml; UPGRADE=1 takes newer versions
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	@$(UV_COMPILE) pyproject.toml -o requirements.txt
	@$(UV_COMPILE) pyproject.toml publisher/pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt
	@$(UV_COMPILE) --group audit -o requirements-audit.txt

clean: ## remove everything that make created here
	@rm -rf .venv .airflow .audit .local sbom.json .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Every target with a description is a command, not a file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' $(MAKEFILE_LIST))
