# The two commands a stranger needs are `make demo` and `make test`; each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Idle OpenMP threads would spin and take the cores from the other replica's.
export OMP_WAIT_POLICY := passive
export GOMP_SPINCOUNT := 0
export RAY_USAGE_STATS_ENABLED := 0
# Ray runs its workers at nice 15, and Serve replaces a proxy that is slow to answer: on a busy
# machine of two cores, neither helps.
export RAY_worker_niceness := 0
export RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S := 60
export RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S := 60
# Read by Serve's proxy: clean headers, limits, problems instead of plain text (docs/operations.md).
export RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH := deployments.proxy.middlewares

.PHONY: install demo serve test lint units clusters clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,load]"
	touch $@

demo: install
	$(BIN)/python examples/demo.py

# A worker's threads spin for some microseconds, from one operation to the next, and no longer.
demo serve: export GOMP_SPINCOUNT := 2000

serve: install
	$(BIN)/serve run serve_config.cpu.yaml

# Tests with a cluster wait for most of their time; what computes beside them gives way.
test: install
	$(MAKE) --jobs --keep-going --output-sync=target lint units clusters

units: install
	nice $(BIN)/python -m pytest -m "not cluster"

clusters: install
	$(BIN)/python -m pytest -m cluster

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) demo build *.egg-info
