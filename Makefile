# Needs git, make and a Python 3.11 to 3.13 with venv. uv comes into .uv, everything else into .venv.

UV_VERSION := 0.13.8
PYTHONS := python3 python3.13 python3.12 python3.11
VENV := .venv/bin
# Further arguments of the tool behind a target: make test ARGS="-k loans"
ARGS :=

# Someone else's environment must not become ours.
unexport VIRTUAL_ENV UV_PROJECT_ENVIRONMENT PYTHONHOME PYTHONPATH
# Without compiled files each of the many processes of a run compiles all that it imports: twice the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run up test fuzz lint format bench docs requirements clean sync
.DEFAULT_GOAL := help

help: ## what there is
	@sed -n 's/^\([a-z]*\):[^#]*## /make \1#/p' Makefile | awk -F'#' '{ printf "%-20s %s\n", $$1, $$2 }'

run: sync ## set up, materialise everything once, print what happened
	@$(VENV)/platform-assets run $(ARGS)

up: sync ## start everything, with automation on: Dagster UI on 3000, MLflow on 5000, service on 8000
	@exec $(VENV)/platform-assets up $(ARGS)

test: sync ## set up, run the tests, say which were skipped and why
	@$(VENV)/pytest -n 4 --dist loadscope --no-loadscope-reorder $(ARGS)

fuzz: sync ## land 5,000 odd files and check each outcome; ARGS="--seed 7 --files 1" repeats one
	@$(VENV)/python -W ignore -m platform_assets_tests.lake.fuzz $(ARGS)

lint: sync ## style, types, layers
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	$(VENV)/lint-imports

format: sync ## mend what can be mended by itself
	$(VENV)/ruff check --fix
	$(VENV)/ruff format

bench: sync ## measure against hand-written code
	@.uv/$(UV_VERSION)/bin/uv run --frozen --group bench python -m benchmarks $(ARGS)

docs: sync ## write the pages that are generated from the code
	@$(VENV)/python -m platform_assets.operations.settings_page

requirements: sync ## each requirement with the tests that prove it, and the gaps
	@$(VENV)/python -m platform_assets_tests.requirements

clean: ## remove what the tools made; .platform, which holds data, stays
	rm -rf .uv .venv .bench dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment of uv itself comes first: it is there when everything is warm, and starts faster than a shim.
sync:
	@for python in .uv/$(UV_VERSION)/bin/python $(PYTHONS); do \
	    "$$python" -I -c "$$WILL_DO" 2>/dev/null && exec "$$python" -I .ci/sync.py $(UV_VERSION); \
	done; \
	echo "make: none of $(PYTHONS) runs, is a Python 3.11 to 3.13 and has venv." >&2; \
	echo "make: install one (Debian: apt-get install python3 python3-venv), or name one:" >&2; \
	echo "make: make PYTHONS=/path/to/python .." >&2; \
	exit 1

export WILL_DO = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
