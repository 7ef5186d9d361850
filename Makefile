# tailrace: everything a person or a build machine does. `make help` lists it.
#
# Needs python3 (3.11 or newer) with its venv module and headers, a C compiler and make.
# Everything else is installed, at pinned versions, into .venv.

PYTHON   ?= python3
VENV     ?= .venv
HOST     ?= 127.0.0.1
PORT     ?= 4437
DATA_DIR ?= data
ARGS     ?=
BENCH    ?= append read search http-append http-read http-catch-up fanout replay mixed
FUZZ_SECONDS ?= 10
ATTACK_SECONDS ?= 300
STRESS_SECONDS ?= 60
SOAK_SECONDS ?= 480
# Test processes at once: one more than processors, as tests also wait. More than nine would not
# end sooner: the longest file takes a minute.
WORKERS  ?= $(shell n=$$(nproc); echo $$(((n < 8 ? n : 8) + 1)))

BIN      := $(VENV)/bin
STAMPS   := $(VENV)/.stamps
NATIVE   := $(filter-out csrc/__pycache__,$(wildcard csrc/* csrc/front/*))
SANITIZE := -fsanitize=address,undefined
FUZZ_CLANG = clang -std=c11 -g -O1 -fsanitize=fuzzer -fno-sanitize-recover=all $(SANITIZE) \
             -Icsrc -Ifuzz
FUZZERS  := $(patsubst %.py,%,$(notdir $(wildcard fuzz/fuzz_*.py)))
PIP      := $(BIN)/python -m pip --disable-pip-version-check --no-input
LOCK     := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
            --fork-strategy fewest --generate-hashes --no-header --no-annotate \
            --no-emit-package tailrace

.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help: ## list what make can do
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo
	@echo "  make run ARGS='--api-key K' PORT=8080 DATA_DIR=/srv/tailrace    sets what to serve"

.PHONY: run
run: build ## set everything up and start the server on 127.0.0.1:4437
	@exec $(BIN)/tailrace serve --data-dir "$(DATA_DIR)" --host "$(HOST)" --port "$(PORT)" $(ARGS)

.PHONY: build
build: $(STAMPS)/build ## set up .venv, compile the C helpers, install tailrace in place

.PHONY: dev
dev: build $(STAMPS)/dev ## the same, with all that tests, checks and benchmarks need

.PHONY: test
test: dev ## set everything up and run every test (PYTEST_ARGS= for some, WORKERS=0 in one process)
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
	    $(PYTEST_ARGS)

.PHONY: lint
lint: dev ## ruff, mypy --strict, and the C compiler's warnings as errors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(CC) -std=c11 -Wall -Wextra -Werror -fsyntax-only -Icsrc \
	    -I$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))') \
	    $(wildcard csrc/*.c csrc/front/*.c bench/loadgen/*.c tests/csrc/*.c) \
	    $(wildcard fuzz/fuzz_*.c) fuzz/made_log.c fuzz/standalone.c

.PHONY: format
format: dev ## let ruff lay out the sources
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: bench
bench: dev ## run the benchmarks beside their peers (BENCH= for some, ARGS=--quick)
	@for command in $(BENCH); do $(BIN)/python -m bench $$command $(ARGS) || exit 1; done

.PHONY: fuzz
fuzz: dev ## run every fuzz target for FUZZ_SECONDS
	@for target in $(FUZZERS); do \
	    echo "== $$target"; \
	    $(BIN)/python -m "fuzz.$$target" --seconds $(FUZZ_SECONDS) || exit 1; \
	done

.PHONY: attack
attack: dev ## let Schemathesis attack each front over its OpenAPI document for ATTACK_SECONDS
	@PYTHONPATH=engine:server:. $(BIN)/python -m tests.server.openapi.attack \
	    --seconds $(ATTACK_SECONDS) $(ARGS)

.PHONY: fuzz-sanitized
fuzz-sanitized: dev ## the same, the C helpers built with the sanitizers for memory
	@CFLAGS="-g -fno-omit-frame-pointer $(SANITIZE) -fno-sanitize-recover=all" LDFLAGS="$(SANITIZE)" \
	    $(BIN)/python setup.py --quiet build \
	    --build-base build/sanitized --build-lib build/sanitized/lib
	@for target in $(FUZZERS); do \
	    echo "== $$target"; \
	    ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	        PYTHONSAFEPATH=1 PYTHONPATH=build/sanitized/lib:. \
	        LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	        $(BIN)/python -m "fuzz.$$target" --seconds $(FUZZ_SECONDS) || exit 1; \
	done

.PHONY: fuzz-native
fuzz-native: ## the C that parses, and that reads logs, guided by coverage (clang; LLHTTP=)
	@mkdir -p $(addprefix build/fuzz/corpus/,http_request json_value log)
	@$(FUZZ_CLANG) \
	    $(if $(LLHTTP),-DWITH_LLHTTP -I$(LLHTTP)/include fuzz/llhttp_reading.c) \
	    $(if $(LLHTTP),$(wildcard $(LLHTTP)/src/*.c)) \
	    -o build/fuzz/http_request fuzz/fuzz_http_request.c csrc/front/http_request.c
	@$(FUZZ_CLANG) -o build/fuzz/json_value fuzz/fuzz_json_value.c csrc/front/json_value.c
	@$(FUZZ_CLANG) -o build/fuzz/log fuzz/fuzz_log.c fuzz/made_log.c \
	    $(addprefix csrc/,gather.c gather_small.c batch_scan.c checksum.c map.c)
	@for target in http_request json_value log; do \
	    echo "== $$target"; \
	    build/fuzz/$$target -max_total_time=$(FUZZ_SECONDS) -max_len=3000 \
	        -artifact_prefix=build/fuzz/ build/fuzz/corpus/$$target || exit 1; \
	done

.PHONY: stress
stress: dev ## the C helpers with threads and damage, under the sanitizers, for STRESS_SECONDS
	@TAILRACE_STRESS_S=$(STRESS_SECONDS) $(BIN)/python -m pytest tests/csrc

.PHONY: soak
soak: dev ## the server under mixed load for SOAK_SECONDS: no growth, no error, nothing lost
	@PYTHONPATH=engine:server:. $(BIN)/python -m tests.e2e.soak --seconds $(SOAK_SECONDS) $(ARGS)

.PHONY: lock
lock: build ## resolve the pinned versions again, as new as pyproject.toml allows
	@$(PIP) install --quiet uv
	@echo setuptools | $(LOCK) --upgrade pyproject.toml - --extra server -o requirements-server.lock
	@echo setuptools | $(LOCK) --upgrade pyproject.toml - --extra dev \
	    --constraints requirements-server.lock -o requirements-dev.lock

.PHONY: clean
clean: ## remove what make made; data directories stay
	rm -rf "$(VENV)" build dist *.egg-info
	rm -rf engine/tailrace/_native*.so server/tailrace_server/_reactor*.so
	rm -rf bench/loadgen/_built bench/peers/node/node_modules
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- steps, each remembered by a stamp -------------------------------------------------

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "tailrace needs Python 3.11 or newer; '$(PYTHON)' is missing or older." >&2; \
	    echo "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "'$(PYTHON)' cannot make virtual environments (ensurepip is missing)." >&2; \
	    echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; \
	    sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { \
	    echo "The headers of '$(PYTHON)' (Python.h) are missing." >&2; \
	    echo "On Debian and Ubuntu: apt-get install python3-dev" >&2; exit 1; }
	@command -v "$${CC:-cc}" >/dev/null || { \
	    echo "A C compiler is missing (looked for '$${CC:-cc}')." >&2; \
	    echo "On Debian and Ubuntu: apt-get install gcc libc6-dev" >&2; exit 1; }
	@rm -rf "$(VENV)"
	$(PYTHON) -m venv "$(VENV)"
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/server: requirements-server.lock $(STAMPS)/venv
	$(PIP) install --quiet --require-hashes -r requirements-server.lock
	@touch $@

$(STAMPS)/dev: requirements-dev.lock $(STAMPS)/server
	$(PIP) install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

# The folder csrc is listed so that a removed file rebuilds too.
$(STAMPS)/build: csrc $(NATIVE) pyproject.toml setup.py $(STAMPS)/server
	@rm -rf build engine/tailrace/_native*.so server/tailrace_server/_reactor*.so
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
