# What users and developers type. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
# Which build of torch: cpu, cuda, or auto (cuda where there is an NVIDIA driver).
TORCH ?= auto
TORCH_CPU_WHEELS := https://download.pytorch.org/whl/cpu

VENV := .venv
EXPORT_VENV := .venv-export
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools
export PATH := $(abspath $(VENV)/bin):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

FAST := not slow and not gpu and not cluster and not faults
# What people wait for: without the one chain, which `make check` runs.
QUICK := $(FAST) and not chain
# Hard limits: a Snakemake that waits for ever must not take all of CI's time.
SLOW_SECONDS ?= 3600
SLURM_SECONDS ?= 1200
FAULT_SECONDS ?= 5400
# Random moments at which a prediction and a training are killed.
KILLS ?= 10
# The rest of README's table, which `make check` and `make slow` run too.
MORE_FAULTS := tests/runtime/test_locks.py tests/training/test_checkpoints.py \
  tests/stages/test_prediction.py tests/stages/test_train_unet.py \
  tests/stages/test_ingest_part.py \
  tests/training/test_loop.py tests/workflow/test_chain.py
# One worker a processor; WORKERS=1 leaves room on a machine that others use too.
WORKERS ?= auto
# The tests of a file share what they have built.
# What they have compiled stays, here too where that is switched off.
PYTEST := env -u PYTHONDONTWRITEBYTECODE pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# What the tests themselves use, where it fits beside the lowest versions.
TEST_TOOLS := pytest pytest-timeout pytest-xdist hypothesis py-ctcmetrics==1.3.3 \
  matplotlib tensorboard
# An oracle that needs one version of pydantic: neither the lowest nor the newest.
ASKING_MODELS := $(shell grep -rl "ome_zarr_models" tests --include='test_*.py')

.PHONY: help venv demo test test-lowest test-newest check slow test-export test-napari test-slurm faults bench bench-gpu gpu-check fix schema clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s  %s\n", $$1, $$2}' Makefile

venv: $(STAMP) ## Build the virtual environment; TORCH=cuda for the GPU build

demo: venv ## Run the whole chain on the built-in phantom
	snakemake

test: $(TOOLS) ## Run the tests that take seconds
	$(PYTEST) -m "$(QUICK)"

check: $(TOOLS) ## Format, lint, types, import contracts, workflow lint, audit, tests
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	snakefmt --check workflow
	snakemake --lint
	.ci/audit
	$(PYTEST) -m "$(FAST)"

slow: $(TOOLS) ## Run the tests that take minutes, and all variants of quick ones
	HYPOTHESIS_PROFILE=many timeout --signal INT --kill-after 60 $(SLOW_SECONDS) \
	  $(PYTEST) -m "(slow or hypothesis) and not gpu and not cluster and not faults"

# Starts a controller and four nodes on this machine; root, and Debian for the packages.
test-slurm: $(TOOLS) ## Run the chain through a real SLURM on this machine
	pip install --quiet --constraint constraints.txt --editable ".[slurm]"
	timeout --signal INT --kill-after 60 $(SLURM_SECONDS) \
	  pytest -m "cluster and not faults" --numprocesses 0 tests/cluster

faults: $(TOOLS) ## Inject every fault; ONLY="not cluster" KILLS=2 for some of them
	pip install --quiet --constraint constraints.txt --editable ".[slurm]"
	UNETPIPE_KILLS=$(KILLS) timeout --signal INT --kill-after 60 $(FAULT_SECONDS) \
	  pytest -m "faults and ($(or $(ONLY),not gpu))" --numprocesses 0 \
	  tests/faults tests/cluster
	$(if $(ONLY),,pytest -m "not gpu and not cluster and not faults" $(MORE_FAULTS))

# napari brings many packages, and a plugin for pytest: an environment of its own, which
# sees what is in the usual one.
test-napari: $(TOOLS) ## Open stores in napari; take a picture of its window with xvfb-run
	@test -x $(VENV)-napari/bin/pip || $(PYTHON) -m venv --clear $(VENV)-napari
	@$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  >"$$($(VENV)-napari/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/usual.pth"
	@$(VENV)-napari/bin/pip install --quiet --constraint constraints.txt --editable ".[viewer]"
	$(VENV)-napari/bin/python -m pytest -W ignore tests/viewer

# Of torch, the pinned build: lower ones are had as CUDA builds only. The tests that ask
# ome-zarr-models are left out, which wants newer packages; warnings of old ones count not.
test-lowest: ## Run the fast tests with the lowest versions that pyproject.toml declares
	$(PYTHON) -m venv --clear $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet uv packaging
	$(VENV)-lowest/bin/pip install --quiet --retries 0 --timeout 10 --constraint constraints.txt \
	  --extra-index-url $(TORCH_CPU_WHEELS) torch
	$(VENV)-lowest/bin/python -m tests.reference.environment >$(VENV)-lowest/declared.txt
	$(VENV)-lowest/bin/uv pip compile --quiet --python $(VENV)-lowest/bin/python \
	  --resolution lowest-direct --output-file $(VENV)-lowest/lowest.txt \
	  $(VENV)-lowest/declared.txt
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest/bin/python \
	  --requirement $(VENV)-lowest/lowest.txt --constraint $(VENV)-lowest/lowest.txt \
	  $(TEST_TOOLS)
	PYTHONPATH=$(CURDIR) $(VENV)-lowest/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile \
	  -m "$(FAST)" -W default $(addprefix --ignore=,$(ASKING_MODELS)) $(ONLY)

test-newest: ## Run the fast tests with the newest versions that the registry serves
	$(PYTHON) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/pip install --quiet --retries 0 --timeout 10 \
	  --extra-index-url $(TORCH_CPU_WHEELS) "$$(grep '^torch==' constraints.txt)"
	$(VENV)-newest/bin/pip install --quiet uv
	$(VENV)-newest/bin/uv pip install --quiet --python $(VENV)-newest/bin/python \
	  --editable ".[dev]"
	$(VENV)-newest/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile \
	  -m "$(FAST)" -W default $(addprefix --ignore=,$(ASKING_MODELS)) $(ONLY)

# bioimage.io's own library needs other versions than ours, so it has its own environment.
test-export: $(TOOLS) ## Let bioimage.io's library and onnxruntime run exported networks
	pip install --quiet --constraint constraints.txt --editable ".[export]"
	test -x $(EXPORT_VENV)/bin/pip || $(PYTHON) -m venv $(EXPORT_VENV)
	$(EXPORT_VENV)/bin/pip install --quiet --extra-index-url $(TORCH_CPU_WHEELS) \
	  "$$(pip freeze | grep '^torch==' | cut -d + -f 1)" \
	  bioimageio.core==0.11.0 "pydantic<2.14" onnxruntime
	UNETPIPE_EXPORT_PYTHON=$(abspath $(EXPORT_VENV))/bin/python \
	  pytest tests/stages/test_export_model.py

# MONAI, which is measured against, is not needed for anything else.
bench: $(TOOLS) ## Measure speed, memory and exactness; ONLY="engine memory" for some
	@python -c "import monai" 2>/dev/null \
	  || pip install --quiet --constraint constraints.txt --editable ".[bench]" \
	  || echo "MONAI cannot be had now; its figures are left out" >&2
	python -m tests.benchmarks $(ONLY)

# Takes the Python that is there and asks for no network: for machines lent for minutes.
bench-gpu: ## The same on CUDA in less than 8 minutes
	$(PYTHON) -m tests.benchmarks --device cuda --minutes 6 $(ONLY)

# Results first, then figures; --device cpu --quick tries the command itself.
gpu-check: ## Prove on a first GPU that results are right, in less than 8 minutes
	$(PYTHON) -m tests.gpu_check $(ONLY)

fix: $(TOOLS) ## Format, and mend what the linters can mend
	ruff check --fix .
	ruff format .
	snakefmt workflow

schema: $(TOOLS) ## Write the schemas and the tables of config/README.md
	python -m tests.reference config

clean: ## Remove the virtual environment and caches, never results
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest $(EXPORT_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache build unetpipe.egg-info

# A build of torch that is named on the command line replaces another one.
ifeq ($(origin TORCH),command line)
$(STAMP): FORCE
FORCE:
endif

# torch comes first, so that pip never picks a CUDA build (several GB) for a machine
# without an NVIDIA GPU where a CPU build is to be had.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "unetpipe needs Python 3.11 or later; $(PYTHON) is" \
	    "$$($(PYTHON) --version 2>&1). Name another: make venv PYTHON=python3.12" >&2; \
	  exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "$(PYTHON) cannot make a virtual environment;" \
	    "on Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }
	@build=$(TORCH); \
	if [ $$build = auto ]; then \
	  if command -v nvidia-smi >/dev/null; then build=cuda; else build=cpu; fi; \
	fi; \
	have=$$(pip freeze 2>/dev/null | grep '^torch==' || true); \
	case "$(origin TORCH):$$build:$$have" in \
	  *line:cuda:*+cpu | *line:cpu:torch==*[0-9]) pip uninstall --quiet --yes torch;; \
	esac; \
	echo "Installing torch ($$build build)"; \
	if [ $$build = cpu ]; then \
	  pip install --quiet --retries 0 --timeout 10 --constraint constraints.txt \
	    --extra-index-url $(TORCH_CPU_WHEELS) torch; \
	else \
	  pip install --quiet --constraint constraints.txt torch; \
	fi
	@echo "Installing unetpipe"
	@pip install --quiet --constraint constraints.txt --editable .
	@touch $@

# Who only runs the workflow needs none of these.
$(TOOLS): $(STAMP)
	@echo "Installing the developers' tools"
	@pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@
