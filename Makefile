# Everything a person or CI runs. Each target first sets up what it needs; a second run finds it done.
#
# Nothing is assumed but Python 3.11, git, make, Node, Go and (for tests on real Kubernetes) Debian's apt as root. uv
# itself is installed, by hash, into a virtual environment of its own in the cache.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules

PYTHON ?= $(shell command -v python3.11 || command -v python3)
FAIRLEAD_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/fairlead
export FAIRLEAD_CACHE
export UV_PYTHON_DOWNLOADS := never

digest = $(shell ("$(PYTHON)" -VV; $(1)) | sha256sum | cut -c -16)
MEMBERS := shared agent relay cli
UV_HOME := $(FAIRLEAD_CACHE)/uv-$(call digest,cat requirements/uv.txt)
UV := $(UV_HOME)/bin/uv
LOCKS := requirements/uv.txt requirements/dev.txt requirements/members.txt $(MEMBERS:%=%/pyproject.toml)
# Two marks: an environment made for another Python or path is made anew; one with other packages is brought in step.
MADE := .venv/.made-$(call digest,pwd)
READY := .venv/.ready-$(call digest,pwd; cat $(LOCKS))
RUN := .venv/bin/python -m

.PHONY: help
help: ## List the targets
	@echo "Fairlead: make TARGET"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

.PHONY: setup
setup: $(READY) ## Make .venv with the pinned tools and the four members (other targets do it when needed)

# Two makes at once must not build one environment together: the lock makes the second wait, then find the work done.
$(UV):
	@mkdir -p "$(FAIRLEAD_CACHE)"
	@exec 9>"$(FAIRLEAD_CACHE)/uv.lock"; flock 9; test -x "$@" && exit 0; \
	echo "setup: installing uv into $(UV_HOME)"; rm -rf "$(UV_HOME)"; \
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "setup: $(PYTHON) is older than Python 3.11: set PYTHON to one that is not" >&2; exit 1; }; \
	"$(PYTHON)" -m venv "$(UV_HOME)" || \
		{ echo "setup: $(PYTHON) cannot make a virtual environment: on Debian, apt-get install python3-venv" >&2; exit 1; }; \
	"$(UV_HOME)/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt

$(READY): | $(UV)
	@exec 9>.venv.lock; flock 9; test -e "$@" && exit 0; \
	echo "setup: making .venv from requirements/dev.txt (about 10 s once packages are cached)"; \
	test -e $(MADE) || { "$(UV)" venv --quiet --clear --python "$(PYTHON)" .venv; touch $(MADE); }; \
	"$(UV)" pip sync --quiet --python .venv requirements/dev.txt requirements/members.txt; \
	rm -f .venv/.ready-*; ln -sf "$(UV)" .venv/bin/uv; touch "$@"

.PHONY: check
check: lint ## Static gates, then the tests that need no service: a minute or two
	@$(RUN) pytest -q --numprocesses=auto tests/repository tests/unit tests/property

# Quick to slow; all of them run, so that one run shows every complaint.
.PHONY: lint
lint: $(READY) ## ruff, its formatter, mypy --strict and the import contracts
	@failed=; for gate in "ruff check --quiet" "ruff format --check --quiet" "mypy" "lint-imports --no-cache --no-logo"; do \
		echo "lint: $$gate"; .venv/bin/$$gate || failed="$$failed, $$gate"; \
	done; \
	test -z "$$failed" || { echo "lint: failed:$${failed#,}" >&2; exit 1; }

.PHONY: format
format: $(READY) ## Put the code into the form that check asks for
	@$(RUN) ruff check --quiet --fix-only; $(RUN) ruff format --quiet

# Many tests wait, for pods or for a lease to end, so three processes fill two cores; tests that share a cluster stay in
# one (tests/conftest.py). TESTS narrows the run, to one process: make test TESTS=tests/integration
TESTS ?=
# In CI a test of real processes that fails runs once more, three tests at most; how it failed is told all the same
# (CONTRIBUTING.md). Elsewhere the first failure counts, and everywhere that of a test that needs no other process.
STEADY := unit property conformance repository
AGAIN := $(if $(CI),--reruns=1 --max-suite-reruns=3 --rerun-show-tracebacks $(STEADY:%=--rerun-exclude-path=tests/%))
.PHONY: test
test: $(READY) ## Every test, on real Kubernetes too (first run: 10-15 min to build it; TESTS=PATH for some)
	@$(RUN) pytest $(AGAIN) $(or $(TESTS),tests --numprocesses=3 --dist=loadfile --no-loadscope-reorder)

# The fault tests are part of `make test` in a short form; here they run in full. FAIRLEAD_FUZZ_SECONDS sets how long
# frames are fuzzed, in seconds of CPU time (default 60). The tests of metrics-server, Traefik and cert-manager are no fault
# tests: they are here because only a full run builds these three, once; from then on `make test` runs them, too.
ADDONS := tests/cluster_tests/test_metrics_and_gateway.py tests/e2e/test_chart_certificates.py \
	tests/e2e/test_chart_replicas.py
.PHONY: fault
fault: $(READY) ## Networks broken, leaders frozen, processes killed, frames fuzzed: the fault tests in full (an hour)
	@FAIRLEAD_FAULT=full $(RUN) pytest tests/fault tests/e2e/test_leadership.py tests/e2e/test_engine_hostile.py $(ADDONS)

# The oldest minor version of Kubernetes that its makers still mend; another is FAIRLEAD_KUBERNETES=1.NN (tests/cluster/go).
.PHONY: matrix
matrix: $(READY) ## The tests on real Kubernetes, on an older minor version of it (first run: 10 min to build it)
	@FAIRLEAD_KUBERNETES=$${FAIRLEAD_KUBERNETES:-1.35} \
		$(RUN) pytest tests/cluster_tests tests/e2e --numprocesses=2 --dist=loadfile --no-loadscope-reorder

.PHONY: openapi
openapi: $(READY) ## Write docs/openapi.json again, after the API changed
	@$(RUN) tests.repository.api_document

.PHONY: charts
charts: $(READY) ## Write the golden files of the charts again, after a template or a value changed
	@$(RUN) tests.charts

.PHONY: coverage
coverage: $(READY) ## What the unit and property tests execute, by line and branch
	@$(RUN) coverage run -m pytest -q tests/unit tests/property; $(RUN) coverage report --skip-covered --show-missing

.PHONY: demo
demo: $(READY) ## A relay, a private cluster with its agent, and an application deployed, broken and rolled back
	@$(RUN) tests.demo

.PHONY: bench
bench: $(READY) ## Measure, beside what each figure is compared with
	@$(RUN) tests.bench

.PHONY: cluster
cluster: $(READY) ## Bring up a real Kubernetes cluster to try things on (down: .venv/bin/python -m tests.cluster down)
	@$(RUN) tests.cluster up

.PHONY: lock
lock: $(UV) ## Pin the dependencies again after a pyproject.toml changed (UPGRADE=1: to the newest releases)
	@"$(PYTHON)" requirements/lock.py "$(UV)" $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## Remove .venv and what tools left in the checkout (caches outside it stay)
	rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist
