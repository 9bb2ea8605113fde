# Requires git, make, and Python 3.11 to 3.13 with venv. Installs uv into .uv and everything else into .venv.

UV_VERSION := 0.13.8
PYTHONS := python3 python3.13 python3.12 python3.11
VENV := .venv/bin
# Extra arguments for the tool behind a target: make test ARGS="-k loans"
ARGS :=
# Resolution of `make bounds`: lowest-direct or highest
RESOLUTION := lowest-direct
# Optional features to install, separated by spaces: export EXTRAS=encoder
export EXTRAS

# Ignore an active virtual environment of the caller.
unexport VIRTUAL_ENV UV_PROJECT_ENVIRONMENT PYTHONHOME PYTHONPATH
# A run starts many processes. Without bytecode files, each process compiles its imports, which doubles the run time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run up test fuzz lint format bench docs site definitions deploy bounds wheel sbom audit delivery infra pictures requirements clean sync
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## /make \1#/p' Makefile | awk -F'#' '{ printf "%-20s %s\n", $$1, $$2 }'

run: sync ## install, build every table and model once, print a summary
	@$(VENV)/platform-assets run $(ARGS)

up: sync ## start all servers with automation on: Dagster 3000, MLflow 5000, service 8000
	@exec $(VENV)/platform-assets up $(ARGS)

# With one thread each, the numerical libraries of the four test processes do not compete for the processors.
test: export OMP_NUM_THREADS = 1
test: export OPENBLAS_NUM_THREADS = 1
test: sync ## install, run the tests, list the skipped ones with the reason
	@$(VENV)/pytest -n 4 --dist loadscope --no-loadscope-reorder $(ARGS)

fuzz: sync ## land 5,000 unusual or damaged files and check each outcome; ARGS="--seed 7 --files 1" repeats one
	@$(VENV)/python -W ignore -m platform_assets_tests.lake.fuzz $(ARGS)

lint: sync ## check style, types and import layers
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	$(VENV)/lint-imports

format: sync ## fix what ruff can fix automatically
	$(VENV)/ruff check --fix
	$(VENV)/ruff format

bench: sync ## run the benchmarks against hand-written code
	@.uv/$(UV_VERSION)/bin/uv run --frozen --group bench python -m benchmarks $(ARGS)

docs: sync ## write the documentation pages that are generated from the code
	@$(VENV)/python -m platform_assets.operations.settings_page
	@$(VENV)/python -m platform_assets_tests.reference_pages

site: sync ## build the documentation as a web site in .site/html
	@.uv/$(UV_VERSION)/bin/uv run --isolated --frozen --only-group site python .ci/site.py

definitions: sync ## validate the definitions and build tables with Dagster's command line
	$(VENV)/dg check defs
	$(VENV)/dagster asset materialize --select '+key:"credit_risk/client_features"' --module-name platform_assets.definitions

deploy: ## deploy a version with Docker Compose, and roll back if it fails: make deploy ENV=staging TAG=v1.2.3
	@docker/deploy "$(ENV)" "$(TAG)"

bounds: sync ## run the tests with the oldest allowed dependencies; RESOLUTION=highest: with the newest
	@.uv/$(UV_VERSION)/bin/uv venv --quiet --clear --python $(VENV)/python .bounds
	@.uv/$(UV_VERSION)/bin/uv pip install --quiet --python .bounds --resolution $(RESOLUTION) --editable . --group dev
	@.bounds/bin/pytest -n 4 --dist loadscope --no-loadscope-reorder $(ARGS)

wheel: sync ## build the wheel into dist
	@.uv/$(UV_VERSION)/bin/uv build --quiet --wheel --out-dir dist

sbom: sync ## write the list of all components (CycloneDX) to dist/sbom.json
	@mkdir -p dist
	@.uv/$(UV_VERSION)/bin/uv export --quiet --frozen --no-dev --format cyclonedx1.5 --output-file dist/sbom.json

audit: sync ## look up known vulnerabilities of the locked dependencies
	@.uv/$(UV_VERSION)/bin/uv audit --frozen

delivery: sync ## check the workflows and Dockerfiles
	@.uv/$(UV_VERSION)/bin/uv run --isolated --frozen --only-group delivery .ci/delivery

infra: sync ## check the Terraform code and the Kubernetes manifests with checkov and schemas; needs kubectl
	@.uv/$(UV_VERSION)/bin/uv tool run --python $(VENV)/python --with kubernetes-validate==1.37.0 --from checkov==3.3.30 .ci/infra

pictures: sync ## take the screenshots in docs/images from a running platform
	@$(VENV)/python -m platform_assets_tests.pictures

requirements: sync ## list each requirement with the tests that prove it, and the gaps
	@$(VENV)/python -m platform_assets_tests.requirements

clean: ## remove installed tools and caches, but keep .platform, which holds data
	rm -rf .uv .venv .azurite .bench .bounds .site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Try the Python in .uv first, because it starts faster than a pyenv shim. It exists after the first run.
sync:
	@for python in .uv/$(UV_VERSION)/bin/python $(PYTHONS); do \
	    "$$python" -I -c "$$WILL_DO" 2>/dev/null && exec "$$python" -I .ci/sync.py $(UV_VERSION); \
	done; \
	echo "make: none of $(PYTHONS) is a working Python 3.11 to 3.13 with venv." >&2; \
	echo "make: Install one (Debian: apt-get install python3 python3-venv), or give its path:" >&2; \
	echo "make: make PYTHONS=/path/to/python .." >&2; \
	exit 1

export WILL_DO = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
