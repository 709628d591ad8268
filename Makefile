# What is done by hand and by CI. `make help` lists it.

PY := .venv/bin/python
# The Python that the distribution brings, and engines of the lab besides the default one.
SYSTEM_PYTHON ?= /usr/bin/python3
OTHER_ENGINES := bookworm sid
# local or swarm; by default what there is
ON ?=
# Set on many machines that build, on few that people sit at: the one hides what a buffer does, with the other every
# process compiles this project anew.
unexport PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE
# By how many processes tests run beside each other: of the unit tests one waits at any time. Those of tests/local wait
# more than they compute, but each of them trains with several processes; those on the lab have it one after the other.
PROCESSORS := $(shell nproc)
UNIT_AT_ONCE := --numprocesses $(shell expr $(PROCESSORS) + 1) --maxprocesses 8 --dist worksteal
LOCAL_AT_ONCE := --numprocesses auto --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help venv demo docs test test-all check test-unit coverage test-local test-swarm test-machines lab test-system test-pythons test-corpus test-gpu release clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: # quick when there is nothing to do
	@scripts/ensure-venv

demo: venv ## train the digits example on three nodes: on a lab Swarm, or ON=local for processes on this machine
	@scripts/demo $(ON)

docs: venv ## make anew what of the documentation is made of the code
	$(PY) -m swarmtrain.ui.made.pages
	$(PY) scripts/api_page.py > docs/api.md.new && mv docs/api.md.new docs/api.md

test: check test-unit test-machines ## everything that must pass before a change is merged

test-all: check test-system test-pythons test-corpus ## every test there is, also the long ones, and those of the Swarm on every engine of the lab
	@scripts/ensure-docker
	@scripts/ensure-chromium
	SWARMTRAIN_DRAW=1 $(PY) -m pytest tests/unit tests/local tests/swarm
	SWARMTRAIN_DRAW=1 SWARMTRAIN_EXAMPLES=6000 $(PY) -m pytest --timeout=3600 tests/unit/test_replay_properties.py
	@set -e; for engine in $(OTHER_ENGINES); do \
		SWARMTRAIN_LAB_ENGINE=$$engine $(MAKE) --no-print-directory test-swarm; done

check: venv ## style, types, the direction of imports, and that all of it is there in the oldest Python
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy --num-workers $(PROCESSORS)
	.venv/bin/lint-imports
	.venv/bin/vermin --quiet --target=3.10- --violations --no-tips src/swarmtrain

test-unit: venv ## tests that run in seconds and need nothing
	scripts/in-memory $(PY) -m pytest $(UNIT_AT_ONCE) tests/unit

coverage: venv ## the same, and that they reach as much of the code as they have to
	@mkdir -p .cache
	scripts/in-memory $(PY) -m coverage run -m pytest tests/unit
	$(PY) -m coverage report

test-local: venv ## tests that train with processes on this machine
	@scripts/ensure-chromium
	$(PY) -m pytest $(LOCAL_AT_ONCE) tests/local -m "not long and not alone"
	$(PY) -m pytest tests/local -m "not long and alone"

test-swarm: venv ## tests on a real Swarm: a lab of three engines, brought up where it is not
	@scripts/ensure-docker
	$(PY) -m pytest tests/swarm -m "not long"

# The lab takes some minutes where its images are not there yet, in which the tests on this machine mostly wait. Without
# Docker these run all the same, and then it is said.
test-machines: venv ## test-local, while the lab is made ready, then test-swarm
	@-scripts/ensure-docker
	@$(MAKE) --no-print-directory --jobs 2 --keep-going lab test-local
	@$(MAKE) --no-print-directory test-swarm

lab: venv ## the Swarm of three engines that test-swarm is for, with its images
	@mkdir -p .cache
	@echo "lab: it is made ready, and says in .cache/lab.log how far it is"
	@{ scripts/ensure-docker && .venv/bin/swarmtrain lab up $(addprefix --engine ,$(SWARMTRAIN_LAB_ENGINE)) && \
		.venv/bin/swarmtrain lab build; } > .cache/lab.log 2>&1 || { cat .cache/lab.log; exit 1; }

test-system: ## the unit tests with the distribution's own Python, in .venv-system
	@PYTHON=$(SYSTEM_PYTHON) VENV=.venv-system scripts/ensure-venv
	scripts/in-memory .venv-system/bin/python -m pytest $(UNIT_AT_ONCE) tests/unit

test-pythons: venv ## the unit tests that need no torch, on the Pythons of two Debian releases, in containers
	@scripts/ensure-docker
	@scripts/test-pythons

test-corpus: venv ## scripts in the manner of the common frameworks, which it installs: as torchrun runs them, and broken
	@scripts/ensure-docker
	@scripts/test-corpus

test-gpu: ## tests on this machine's GPU, with processes; they need neither Docker nor a network
	@scripts/test-gpu

release: venv ## build and check a release, and tag it: VERSION=0.2.0
	@scripts/release $(VERSION)

clean: ## remove the lab and what tools left behind; .venv and images stay
	@if [ -x .venv/bin/swarmtrain ] && docker version >/dev/null 2>&1; then .venv/bin/swarmtrain lab down; fi
	rm -rf build dist .cache/corpus .cache/pythons .cache/trackers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*/*' -prune -exec rm -rf {} +
