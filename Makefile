# `make` alone lists what there is. Nothing is needed but Python 3.11 or newer, and a package index the first time.

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo demo-stop test test-long mutants check format lock bench screenshots clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/.dev ## Make the environment, with all that tests and checks need

demo: $(VENV)/.demo ## Run the product with a seeded company (ARGS="--exit" tells the story once)
	@mkdir -p "$${LOCAL_DIR:-.local}" && echo $$$$ > "$${LOCAL_DIR:-.local}/demo.pid" && exec $(PY) manage.py demo $(ARGS)

demo-stop: ## Stop the demo and the embedded servers
	@if [ -x $(PY) ]; then $(PY) -m billing_portal.local stop; fi

test: $(VENV)/.dev ## Run the tests on all cores (ARGS="-k grant" picks some, ARGS="-n 0" takes one)
	@$(PY) -m pytest -m 'not long' --numprocesses auto --maxprocesses 4 --dist loadgroup tests $(ARGS)

test-long: $(VENV)/.dev ## Run the tests that take minutes each
	@$(PY) -m pytest -m long tests $(ARGS)

mutants: $(VENV)/.mutants ## Change the ledger in every small way and see a test fail (ARGS="billing_portal/ledger/credits.py")
	@$(PY) -m tests.mutation $(ARGS)

check: $(VENV)/.dev ## Check format, lint, types, migrations, templates and architecture
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/djangofmt --quiet --check templates
	@$(VENV)/bin/mypy usage accounts billing_portal
	@$(PY) manage.py check
	@$(PY) manage.py makemigrations --check --dry-run
	@$(PY) -m pytest --quiet tests/test_architecture.py

format: $(VENV)/.dev ## Format Python and templates
	@$(VENV)/bin/ruff check --fix-only .
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/djangofmt templates

lock: $(VENV)/.uv ## Pin the dependencies anew (ARGS="--upgrade" takes newer ones)
	@$(COMPILE) --output-file requirements/production.txt
	@$(COMPILE) --extra local --extra sandbox --output-file requirements/demo.txt
	@$(COMPILE) --extra local --extra sandbox --group dev --output-file requirements/dev.txt
	@$(COMPILE) --extra local --extra sandbox --group mutants --output-file requirements/mutants.txt

COMPILE = $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url $(ARGS)

bench: $(VENV)/.demo ## Time the story, from sign-up to paid (ARGS="--arrivals FILE --month 2003-04")
	@$(PY) manage.py demo --exit $(ARGS)

screenshots: $(VENV)/.dev ## Photograph every page, wide and narrow, light and dark
	@$(PY) manage.py screenshots $(ARGS)

clean: ## Stop the embedded servers; remove their data, the caches and the screenshots
	@if [ -x $(PY) ]; then $(PY) -m billing_portal.local remove; fi
	@rm -rf .local .mypy_cache .ruff_cache .pytest_cache .hypothesis screenshots staticfiles
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The environment. A stamp is newer than what it was made from, so that a second run does nothing and needs no network.

# uv does not read pip's configuration: whoever set up an index for pip wants it here too.
UV = index="$${PIP_INDEX_URL:-$$($(PY) -m pip config get global.index-url 2>/dev/null)}"; \
	if [ -n "$$index" ] && [ -z "$$UV_DEFAULT_INDEX$$UV_INDEX_URL" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(VENV)/bin/uv

$(VENV)/.demo $(VENV)/.dev $(VENV)/.mutants: $(VENV)/.%: requirements/%.txt $(VENV)/.uv
	@echo "Installing requirements/$*.txt"
	@$(UV) pip install --quiet --python $(PY) --require-hashes --requirement requirements/$*.txt
	@touch $@

$(VENV)/.uv:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer was not found."; \
		echo "Install it (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3."; \
		exit 1; \
	fi
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Python lacks its venv module: installing Debian's python3-venv"; \
			apt-get update -qq </dev/null && \
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv </dev/null; \
		else \
			echo "Python lacks its venv module, which makes the environment."; \
			echo "Install it (Debian: sudo apt-get install python3-venv) and try again."; \
			exit 1; \
		fi; \
	fi
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check uv
	@touch $@
