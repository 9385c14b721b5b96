# `make run` and `make test` set themselves up: Python 3.11 or newer and make are all they need.
# $(RUN) has what running needs, $(DEV) the development tools besides.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/pytest -q -n auto --dist worksteal
# Types of MicroPython's modules; they shadow the standard library's, so they stay out of .venv.
STUBS := stm32==1.28.0.post5 rp2==1.28.0.post4 esp32==1.28.0.post4
STDLIB_STUBS := micropython-stdlib-stubs==1.28.0.post6
BOARDS := $(patsubst boards/%/board.toml,%,$(wildcard boards/*/board.toml))

.PHONY: help run test test-long tests lint format bench campaign reference device image clean
.PHONY: setup

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F '\t' '{printf "make %-9s %s\n", $$1, $$2}'

run: $(RUN) ## the whole system simulated on this computer, a tour of 30 s
	@$(BIN)/bmsctl sim demo

test: $(DEV) ## lint, types and tests, beside each other
	@$(MAKE) --no-print-directory -j 2 lint tests

test-long: $(DEV) ## the long forms of tests, drawn anew; SEED=n draws as the run that printed it
	@seed="$(SEED)"; seed=$${seed:-$$($(BIN)/python -c 'import random; print(random.randrange(2**32))')}; \
		echo "drawn with seed $$seed; the same again: make test-long SEED=$$seed"; \
		BMS_TEST_LONG=1 $(PYTEST) --hypothesis-seed=$$seed

# each worker, and each bmsctl that a test starts, would compile all modules anew
tests test-long: export PYTHONDONTWRITEBYTECODE =

tests: $(DEV)
	@$(PYTEST)

lint: $(DEV) typings/.installed ## style, spelling, words, imports and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/codespell
	@$(BIN)/python checks/words.py
	@$(BIN)/python checks/layout.py
	@$(BIN)/python checks/foreign_names.py
	@$(BIN)/basedpyright
	@$(BIN)/basedpyright -p firmware
	@for board in $(BOARDS); do $(BIN)/basedpyright -p boards/$$board || exit 1; done

format: $(DEV) ## write the code in the project's form
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(RUN) ## measured figures: speed, reaction, heap, bus load
	@$(BIN)/bmsctl bench

campaign: $(RUN) ## RUNS=2000 faults injected at every moment, and as many faultless runs
	@$(BIN)/bmsctl sim --campaign --runs $(or $(RUNS),2000)

reference: $(RUN) ## write docs/reference anew from the code
	@$(BIN)/bmsctl reference --out docs/reference

device: $(DEV) ## IMAGE=file.uf2 (FROZEN=file.uf2): the firmware on an emulated Pico, tests and figures
	@test -f "$(IMAGE)" || { echo "make: IMAGE must be MicroPython's .uf2 for RPI_PICO: make device IMAGE=file.uf2" >&2; exit 1; }
	@failed=0; \
	$(BIN)/pytest -q -n auto --dist loadgroup tests/device --image "$(IMAGE)" || failed=1; \
	PYTHONPATH=tests/unit $(BIN)/python tests/device/measure.py --image "$(IMAGE)" --moments $(or $(MOMENTS),1000) \
		$(if $(FROZEN),--frozen "$(FROZEN)") || failed=1; \
	exit $$failed

image: $(DEV) ## BOARD=name MICROPYTHON_DIR=checkout: MicroPython's image with the firmware frozen into it
	@test -f "boards/$(BOARD)/board.toml" || { echo "make: BOARD must be one of: $(BOARDS)" >&2; exit 1; }
	@test -f "$(MICROPYTHON_DIR)/py/mpconfig.h" || \
		{ echo "make: MICROPYTHON_DIR must be a checkout of MicroPython with its submodules" >&2; exit 1; }
	@rm -rf build/$(BOARD) && $(BIN)/python -m bmsctl.frozen $(BOARD) build/$(BOARD)
	@port=$$(sed -n 's/^port = "\(.*\)".*/\1/p' boards/$(BOARD)/board.toml); \
		$(MAKE) -C "$(MICROPYTHON_DIR)/mpy-cross" && \
		$(MAKE) -C "$(MICROPYTHON_DIR)/ports/$$port" BOARD=$(BOARD) BUILD=build-$(BOARD)-bms \
			FROZEN_MANIFEST=$(CURDIR)/build/$(BOARD)/manifest.py && \
		echo "the image is in $(MICROPYTHON_DIR)/ports/$$port/build-$(BOARD)-bms"

clean: ## remove what these commands made; recorded logs stay
	@rm -rf $(VENV) typings build dist .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(DEV) ## .venv with all that is needed; the others do it themselves

$(RUN): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: $(PYTHON) is missing or older than Python 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "make: $(PYTHON) has no venv module; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -e .
	@touch $@

$(DEV): $(RUN)
	@echo "setting up the development tools"
	@$(PIP) install -e '.[dev]'
	@touch $@

typings/.installed: Makefile | $(DEV)
	@rm -rf typings
	@for port in $(STUBS); do \
		$(PIP) install --no-deps --target typings/$${port%%=*} \
			micropython-$${port%%=*}-stubs==$${port#*==} $(STDLIB_STUBS) || exit 1; \
	done
	@touch $@
