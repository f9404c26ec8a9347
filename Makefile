# Everything a reader or CI does, in one word each. Needs Python 3.11 to 3.13 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
UV := VIRTUAL_ENV=$(VENV) $(BIN)/uv
UV_VERSION := 0.13.9
RUN := $(BIN)/effi run
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup reproduce smoke quick test gpu campaign labtest outputs lab bench site lock

help: ## Show the targets
	@echo "make TARGET [PYTHON=python3.12] [ARGS=\"minimal --scale gpu\"]"
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(STAMP) ## Install the locked versions into .venv

reproduce: $(STAMP) ## Run every notebook at cpu scale, then show the verdicts; a second call resumes
	$(RUN) $(ARGS)

smoke: $(STAMP) ## Run every notebook at smoke scale (a minute each)
	$(RUN) --scale smoke $(ARGS)

quick: $(STAMP) ## Lint and the tests that take no long, for every few minutes' work
	$(BIN)/ruff check
	$(BIN)/pytest -m "not slow" $(ARGS)

# One thread a process: two kinds of tests stand beside each other, and threads that wait for one another spin.
test: export OMP_NUM_THREADS = 1
# Hundreds of processes are started, some from copies of effi: each would compile it again.
test: export PYTHONDONTWRITEBYTECODE =
test: $(STAMP) ## The whole proof: lint, types, unit tests, then every notebook's stored outputs against a fresh run
	$(BIN)/ruff check
	@{ $(BIN)/mypy; types=$$?; $(BIN)/pytest $$($(BIN)/python -m tests.notebooks.outputs option) --nbval-current-env --nbval-sanitize-with tests/notebooks/sanitize.cfg notebooks/ && exit $$types; } \
		>$(VENV)/nbval.log 2>&1 & beside=$$!; \
		$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS); tests=$$?; \
		echo "types, and the notebooks' stored outputs, compared beside these tests (on another kind of CPU golden checks alone):"; \
		wait $$beside; notebooks=$$?; cat $(VENV)/nbval.log; exit $$((tests + notebooks))

gpu: $(STAMP) ## With a GPU: its tests, benchmarks and gpu scale, nine minutes a call; the next call goes on
	$(BIN)/python -m tests.gpu $(ARGS)

campaign: $(STAMP) ## Kills, full disks, bad input and more, done to the real thing; an hour; writes results/campaign.md
	$(BIN)/python -m tests.campaign $(ARGS)

labtest: $(STAMP) ## Each of the five notebooks in JupyterLab, by Chromium: run, closed in the middle, run again; minutes each
	$(BIN)/pytest tests/lab -m slow $(ARGS)

outputs: $(STAMP) ## Execute the notebooks in place at smoke scale: the outputs that `make test` compares
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb
	$(BIN)/python -m tests.notebooks.outputs made
	$(BIN)/ruff format notebooks

lab: $(STAMP) ## Open JupyterLab on START.md; ARGS="--ip=0.0.0.0 --allow-root" is what a container needs
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/START.md $(ARGS)

bench: $(STAMP) ## Time the workbook's parts against the alternatives
	$(BIN)/effi bench $(ARGS)

site: $(STAMP) ## Build the pages of results/ and effi/ into build/site; any warning or broken link fails
	$(BIN)/python -m docs

lock: $(STAMP) ## Solve the dependencies of pyproject.toml anew
	$(UV) pip compile pyproject.toml --quiet --universal --generate-hashes --python-version 3.11 --all-extras \
		--no-annotate --custom-compile-command "make lock" --output-file requirements.lock

# The stamp is younger than the lock that is installed.
$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
		{ echo "$(PYTHON) is not Python 3.11, 3.12 or 3.13; say which is: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	$(UV) pip install --quiet --no-deps -e .
	$(BIN)/python -m ipykernel install --sys-prefix --name effi --display-name "effi (Python)" >/dev/null
	mkdir -p $(VENV)/share/jupyter/lab/settings
	cp data/lab_overrides.json $(VENV)/share/jupyter/lab/settings/overrides.json
	@touch $(STAMP)
