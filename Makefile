PYTHON ?= python3
VENV ?= .venv
PYTHONS = 3.10 3.11 3.12 3.13
BENCH ?=
BENCH_OUTPUT ?= build/benchmarks
FUZZ = $${LDREADER_FUZZ:-100000}
# The release of LaunchDarkly's contract suite.
HARNESS = v2.41.0

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
# ruff does not read setup.cfg.
RUFF = --isolated --line-length 120 --target-version py310
RULES = E,F,W,I,UP,B,C4,SIM,PT,RUF100 --ignore PT018
SOURCES = ldreader tests examples

STORE = file:examples/shop.json
CONTEXT = {"kind":"user","key":"ada","country":"GB","plan":"gold"}

.PHONY: help demo test test-all suite fuzz bench contract flask-min layer lint servers clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed ## evaluate the flags of examples/shop.json with the ldreader command
	$(BIN)/ldreader variation new-checkout --store $(STORE) --context '$(CONTEXT)' --detail
	$(BIN)/ldreader all --store $(STORE) --context '$(CONTEXT)'

test: $(VENV)/.installed-test servers lint ## lint, then run the tests with coverage
	$(BIN)/python -m pytest --cov --cov-report=term

# Two at a time: most tests wait for something.
test-all: servers ## run the tests on each Python that is here
	@mkdir -p build && rm -f build/tests-*; trap 'kill 0' INT; absent=; failed=; passed=; tested=; running=0; \
	for version in $(PYTHONS); do \
	  python=python$$version; \
	  $$python -c pass 2>/dev/null || python=$$(PYENV_VERSION=$$(pyenv latest $$version 2>/dev/null) pyenv which $$python 2>/dev/null); \
	  if ! "$$python" -c pass 2>/dev/null; then absent="$$absent $$version"; continue; fi; \
	  echo "Python $$version: begun; what it says goes to build/tests-$$version.log"; \
	  { $(MAKE) --no-print-directory suite VENV=.venv-$$version PYTHON="$$python" >build/tests-$$version.log 2>&1 && \
	    touch build/tests-$$version.passed; } & \
	  tested="$$tested $$version"; running=$$((running + 1)); \
	  if [ $$running = 2 ]; then wait; running=0; fi; \
	done; wait; \
	for version in $$tested; do \
	  echo "== Python $$version"; cat build/tests-$$version.log; \
	  if [ -e build/tests-$$version.passed ]; then passed="$$passed $$version"; else failed="$$failed $$version"; fi; \
	done; \
	echo "passed:$${passed:- none}; failed:$${failed:- none}; absent:$${absent:- none}"; \
	[ -n "$$passed" ] && [ -z "$$failed" ]

suite: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -q

fuzz: $(VENV)/.installed-test ## compare with the official SDK, 100000 times (or LDREADER_FUZZ)
	LDREADER_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/test_official.py -s

contract: $(VENV)/.installed-test servers $(if $(LDREADER_HARNESS),,.contract/sdk-test-harness) ## run LaunchDarkly's contract suite, which takes Go
	LDREADER_REQUIRE_CONTRACT=1 $(BIN)/python -m pytest -rP tests/test_contract.py

.contract/sdk-test-harness:
	GOBIN=$(CURDIR)/.contract go install github.com/launchdarkly/sdk-test-harness/v2@$(HARNESS)

bench: $(VENV)/.installed-test servers ## measure it beside others (BENCH=--quick for a glance)
	@$(BIN)/python -m tests.benchmarks --output $(BENCH_OUTPUT) $(BENCH)

flask-min: ## run the tests of the Flask extension with the oldest Flask that it takes
	@"$(PYTHON)" -m venv .venv-flask && .venv-flask/bin/python -m pip --disable-pip-version-check --quiet install \
	  'flask==2.2.5' 'werkzeug<3' asgiref launchdarkly-server-sdk pytest redis
	PYTHONPATH=. .venv-flask/bin/python -m pytest tests/test_flask.py -p no:cacheprovider -W default

# Installers date files anew, so bytecode must not be checked against the dates of its sources.
layer: $(VENV)/.made ## make a layer for AWS Lambda, with bytecode for this Python: build/ldreader-layer.zip
	@rm -rf build/lib build/layer build/ldreader-layer.zip
	@$(PIP) install --no-deps --no-compile --target build/layer/python .
	@rm -rf build/layer/python/bin
	@$(BIN)/python -m compileall -q --invalidation-mode unchecked-hash -s build/layer -p /opt build/layer/python
	@cd build/layer && $(abspath $(BIN)/python) -m zipfile -c ../ldreader-layer.zip python

lint: $(VENV)/.installed-test ## check style, formatting and types
	$(BIN)/ruff check $(RUFF) --select $(RULES) $(SOURCES)
	$(BIN)/ruff format $(RUFF) --check $(SOURCES)
	$(BIN)/mypy

servers:
	@sh tests/install-servers.sh

clean: ## remove everything that was built
	rm -rf $(VENV) $(PYTHONS:%=.venv-%) .venv-flask .contract build dist *.egg-info htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache
	find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is missing or older than Python 3.10; name another one, as in: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) lacks the venv module; install it first (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made setup.cfg pyproject.toml
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made setup.cfg pyproject.toml
	@$(PIP) install --editable '.[test]'
	@touch $(VENV)/.installed $@
