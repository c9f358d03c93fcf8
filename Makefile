# make demo      a study in, its report and overlay back in the PACS: build/demo/
# make test      every test, against real peers
# make bench     speed beside peers and the machine's limits: build/bench/bench.json, and plots
# make torture   what is lost or doubled when everything goes wrong: build/torture/torture.json
# make evaluate  the figures of every model card, from public data beside the repository
# make lint      style, types, import rules
# make audit     insecure code, and known vulnerabilities of what the lock files pin
# make sbom      every distribution in .venv, as CycloneDX 1.6: build/sbom.json
# make lock      the lock files again, from pyproject.toml; ARGS='--upgrade-package NAME' for newer
#
# Each makes .venv first. Variables:
#   PYTHON=python3.12     use this interpreter instead of searching for one
#   TORCH_INDEX=ADDRESS   take torch, and the torchvision made for it, from this index. On Linux,
#                         pip's default is the CUDA build of several GB; PyTorch's CPU index has
#                         one of about 200 MB.
#   ARGS='-k ecg'         more arguments for pytest, the demo, the bench, the torture or the
#                         evaluation; the bench takes ARGS='--only receive,send', the torture
#                         ARGS='--only kills --seed 7 --long'
#   DATA=FOLDER           public recordings, images and weights for the evaluation

PYTHON ?= python3 python3.13 python3.12 python3.11 python3.14
TORCH_INDEX ?=
ARGS ?=
DATA ?= ../shared/data

READY := .venv/.ready
BIN := $(CURDIR)/.venv/bin
DEBIAN_PEERS := chromium dcmtk default-jre-headless libpixelmed-java orthanc orthanc-dicomweb poppler-utils postgresql redis-server

.PHONY: demo test bench torture evaluate lint audit sbom lock peers

demo: $(READY)
	@$(BIN)/python -m tests.journeys.demo $(ARGS)

test: $(READY) peers
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 $(ARGS)

bench: $(READY) peers
	@$(BIN)/python -m tests.bench $(ARGS)

torture: $(READY) peers
	@$(BIN)/python -m tests.torture $(ARGS)

evaluate: $(READY)
	@$(BIN)/python -m tests.clinical.evaluate_ecg --data $(DATA)/ecg $(ARGS)
	@$(BIN)/python -m tests.clinical.evaluate_ecg_baselines --data $(DATA)/ecg
	@$(BIN)/python -m tests.clinical.evaluate_brain --data $(DATA) --weights $(DATA)/weights
	@$(BIN)/python -m tests.clinical.evaluate_tumour --data $(DATA)/mr --weights $(DATA)/weights
	@$(BIN)/python -m tests.clinical.evaluate_head_ct --data $(DATA) --weights $(DATA)/weights
	@$(BIN)/python -m tests.clinical.evaluate_lungs --data $(DATA)/ct/chest_acrin_042
	@$(BIN)/python -m tests.clinical.evaluate_nodules --data $(DATA)/ct/chest_acrin_042
	@$(BIN)/python -m tests.clinical.evaluate_denoise ct --data $(DATA)
	@$(BIN)/python -m tests.clinical.evaluate_denoise mr --data $(DATA)

lint: $(READY)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

audit: $(READY)
	@$(BIN)/bandit --quiet --configfile pyproject.toml --severity-level high --recursive .
	@$(BIN)/python -m tests.house.audit $(ARGS)

sbom: $(READY)
	@mkdir -p build
	@$(BIN)/cyclonedx-py environment --spec-version 1.6 --output-reproducible --pyproject pyproject.toml --output-file build/sbom.json $(BIN)/python
	@echo 'build/sbom.json'

# Resolved for macOS, where torch asks for no CUDA libraries; the hashes are those of the wheels for
# every platform. pip check, below, finds what another platform would need beside.
COMPILE := MACOSX_DEPLOYMENT_TARGET=14.0 UV_CUSTOM_COMPILE_COMMAND='make lock' \
	$(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --python-version 3.11 --python-platform macos \
	--constraint requirements-torch.lock --no-emit-package torch --no-emit-package torchvision

lock: $(READY)
	@printf 'pip\nsetuptools>=77\n' | $(COMPILE) $(ARGS) --output-file requirements-build.lock -
	@$(COMPILE) $(ARGS) --all-extras --constraint requirements-build.lock --output-file requirements.lock pyproject.toml
	@$(COMPILE) --extra models --constraint requirements.lock --output-file requirements-models.lock pyproject.toml

# A link to an interpreter that has gone is not a usable .venv: -x follows it.
$(READY): pyproject.toml requirements-build.lock requirements.lock requirements-torch.lock
	@set -e; \
	usable() { "$$1" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	if [ ! -x .venv/bin/python ]; then \
		if ! usable python3 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo 'Installing python3-venv.'; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq python3-venv >/dev/null; \
		fi; \
		found=; \
		for python in $(PYTHON); do if usable "$$python"; then found="$$python"; break; fi; done; \
		if [ -z "$$found" ]; then \
			echo 'radnode needs Python 3.11 or newer with its venv module.' >&2; \
			echo '  Install it (Debian and Ubuntu: apt-get install python3-venv), or name one: make PYTHON=...' >&2; \
			exit 1; \
		fi; \
		"$$found" -m venv .venv; \
	fi; \
	echo 'Installing what radnode needs into .venv; the first time, this downloads for some minutes.'; \
	$(BIN)/python -m pip install -q --require-hashes -r requirements-build.lock; \
	$(BIN)/python -m pip install -q --require-hashes --no-deps --no-build-isolation -r requirements.lock; \
	$(BIN)/python -m pip install -q -c requirements-torch.lock $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch torchvision; \
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .; \
	$(BIN)/python -m pip check; \
	touch $@

# Servers and tools of other makers. Where they are missing and cannot be installed, the tests
# that need them are skipped and say so. The policy keeps apt from starting what it installs.
peers: $(READY)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s $(DEBIAN_PEERS) >/dev/null 2>&1; then \
		echo 'Installing $(DEBIAN_PEERS).'; \
		policy=/usr/sbin/policy-rc.d; \
		if [ ! -e $$policy ]; then \
			printf '#!/bin/sh\nexit 101\n' >$$policy; chmod +x $$policy; trap 'rm -f '$$policy EXIT; \
		fi; \
		apt-get update -qq; \
		for package in $(DEBIAN_PEERS); do \
			DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $$package >/dev/null \
			|| echo "$$package could not be installed; the tests that need it will be skipped."; \
		done; \
	fi
	@$(BIN)/python -m tests.peers.ohif
