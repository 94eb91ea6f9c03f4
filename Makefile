# tport. `make` alone tells what there is; all of it works on a fresh machine with Python, make and git.

PYTHON ?= python3
WORKERS ?= 3
PYTEST_ARGS ?=
MINUTES ?= 10
FUZZ_ARGS ?=
AUDIT_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes
CODE := tport tests examples bench release website

# Rules of flake8-async that don't hold here. 106, 900 and 91x are off in flake8 too: matters of style.
# 114, 128: a task_status may be passed on to the function that starts. 124: a Protocol or a callback
# says which functions are async. 120: a Cancelled may replace an error that is being handled.
ASYNC_OFF := ASYNC106,ASYNC114,ASYNC120,ASYNC124,ASYNC128,ASYNC9

.PHONY: help demo test test-deps lint fmt torture fuzz bench bench-quick bench-micro bench-docs bench-deps profile coverage audit dist sbom site lock clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       a cluster with a demo application, on this machine, in your browser"
	@echo "make test       every test; gets what they need first"
	@echo "make test-deps  what tests need beyond Python packages: a browser, Go, JupyterLab, ..."
	@echo "make coverage   which branches of what decides about security no test takes; an hour"
	@echo "make lint       ruff, mypy --strict, flake8-async"
	@echo "make fmt        format the code"
	@echo "make torture    the long and heavy tests, at most an hour; their figures in build/figures.json"
	@echo "make fuzz       parsers under inputs that are made from one another; MINUTES=10"
	@echo "make bench      tport measured beside nginx + ssh -R, Caddy and others; bench-quick: in 90 s"
	@echo "make bench-docs three times, into docs/performance.md; half an hour"
	@echo "make bench-micro  what each function on the way of a request costs"
	@echo "make profile    flame graphs of proxy and agent under the bench, in build/"
	@echo "make audit      what is known against the releases that the locks name"
	@echo "make dist       all that is released, of the last commit: wheel, one file, archive, packages, hashes; SIGN=KEY signs"
	@echo "make site       the documents as a site, in build/site"
	@echo "make sbom       the list of parts (SBOM) alone"
	@echo "make lock       write locks/ anew; LOCK_ARGS=--upgrade moves to newer releases"
	@echo "make clean      remove what the others made"
	@echo "PYTHON=...      the Python to use, 3.11 or later; PYTEST_ARGS='-k name' chooses tests"

demo: $(VENV)/installed
	@echo "tport: the program is $(CURDIR)/$(BIN)/tport"
	@$(BIN)/tport up

# Bytecode first: the tests that measure the command line measure what a wheel installs.
test: $(VENV)/tools test-deps
	@$(BIN)/python -m compileall -q tport
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope -m "not torture" $(PYTEST_ARGS)

torture: $(VENV)/tools test-deps
	@$(BIN)/python -m pytest -m torture --figures=build/figures.json $(PYTEST_ARGS)

fuzz: $(VENV)/tools
	@$(INSTALL) -r locks/fuzz.txt || \
		echo "tport: fuzz: no atheris for this Python; hypothesis draws the inputs instead" >&2
	@$(BIN)/python -m tests.fuzz --minutes=$(MINUTES) $(FUZZ_ARGS)

# Apart from `make test`, which it would slow down by half. The profile of hypothesis has no deadlines.
# A test that failed is told by the status at the end: what the others reached is reported all the same.
coverage: $(VENV)/tools test-deps
	@rm -rf build/coverage && mkdir -p build/coverage
	@status=0; \
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadscope -m "not torture" --hypothesis-profile=ci $(PYTEST_ARGS) || \
		status=$$?; \
	$(BIN)/coverage combine -q && $(BIN)/coverage json -q -o build/coverage/report.json && \
		$(BIN)/python -m tests.covered build/coverage/report.json || status=$$?; \
	exit $$status

test-deps: $(VENV)/tools
	@./tests/deps.sh

bench: bench-deps
	@$(BIN)/python -m bench

bench-quick: bench-deps
	@$(BIN)/python -m bench --quick

# Half an hour: the figures of docs/performance.md are medians of three runs.
bench-docs: bench-deps
	@for run in 1 2 3; do $(BIN)/python -m bench --json=build/bench-$$run.json || exit; done
	@$(BIN)/python -m bench.docs build/bench-1.json build/bench-2.json build/bench-3.json

bench-micro: $(VENV)/tools
	@$(BIN)/python -m bench.micro

profile: bench-deps
	@$(BIN)/python -m bench.profile

bench-deps: $(VENV)/tools
	@./bench/deps.sh

lint: $(VENV)/tools
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy
	@grep -rlZwE 'async|trio' --include='*.py' $(CODE) | xargs -0 -n 50 -P 2 $(BIN)/flake8-async --disable $(ASYNC_OFF)

audit: $(VENV)/tools
	@$(BIN)/python -m tests.supply.audit $(AUDIT_ARGS)

dist: $(VENV)/tools
	@rm -rf dist
	@./.ci/make-dist dist
	@./.ci/make-programs dist

sbom: $(VENV)/tools
	@mkdir -p dist
	@$(BIN)/python -m tests.supply.sbom dist/tport.cdx.json

site: $(VENV)/tools test-deps
	@$(BIN)/python -m website build/site

lock: $(VENV)/tools
	@./.ci/lock

fmt: $(VENV)/tools
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

clean:
	@rm -rf $(VENV) .test .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# Each is a file that says when it was done last.
$(VENV)/made: .ci/make-venv
	@PYTHON="$(PYTHON)" VENV="$(VENV)" ./.ci/make-venv
	@touch $@

# Only what the locks name, with the hashes they give; tport itself is built by what the lock gave, too. Its version
# is in tport/__init__.py, and what is installed says it, too.
$(VENV)/installed: $(VENV)/made pyproject.toml tport/__init__.py locks/tport.txt locks/build.txt
	@echo "tport: installing into $(VENV)" >&2
	@$(INSTALL) -r locks/tport.txt -r locks/build.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/tools: $(VENV)/installed locks/dev.txt
	@echo "tport: installing the tools for tests into $(VENV)" >&2
	@$(INSTALL) -r locks/dev.txt
	@$(BIN)/python -m compileall -q $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@
