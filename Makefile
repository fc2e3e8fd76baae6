# Two commands for a newcomer: `make demo` and `make test`. Both work twice in a row.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# PyTorch's own index has builds without CUDA; where it cannot be reached, pip's usual places must do.
TORCH_CPU := $(PYTHON) -c 'import urllib.request as u; i = "https://download.pytorch.org/whl/cpu"; u.urlopen(i, timeout=5); print("--extra-index-url", i)' 2>/dev/null

.PHONY: demo test check device dev bundle encoder figures methods mcu schema clean

demo: device
	@echo "==> a minute with a virtual pulse sensor (Ctrl-C stops it)"
	@$(BIN)/pulsecode demo

test: dev check
	@echo "==> tests"
	@$(BIN)/python -m pytest -n 2 --dist loadfile

check: dev
	@echo "==> ruff and mypy"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

device: $(VENV)/.device
dev: $(VENV)/.dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "pulsecode needs Python 3.11 or newer, and $(PYTHON) is none; try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "==> making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "python's venv module is missing; on Debian: sudo apt install python3-venv" >&2; rm -rf $(VENV); exit 2; }

$(VENV)/.device: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "==> installing what a device needs (no torch)"
	@$(PIP) --editable '.[device]' || { echo "pip could not install; is the package index reachable?" >&2; exit 2; }
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "==> installing what training and tests need (torch first: about 1.5 GB on disk, some minutes)"
	@$(PIP) torch==2.13.0 $$($(TORCH_CPU)) || { echo "pip could not install torch; is the package index reachable?" >&2; exit 2; }
	@$(PIP) --editable '.[dev]' || { echo "pip could not install; is the package index reachable?" >&2; exit 2; }
	@$(BIN)/pulsecode engines build executorch || echo "going on without ExecuTorch" >&2
	@touch $@ $(VENV)/.device

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Regenerates what ships, from the recordings in $PULSECODE_DATA or ../shared/data. Stops and resumes.
bundle: dev
	@$(BIN)/pulsecode train default --out runs/default
	@$(BIN)/pulsecode evaluate student --run runs/default/ecg
	@$(BIN)/pulsecode evaluate student --run runs/default/ppg
	@$(BIN)/pulsecode quantize runs/default/ppg --out edge/bundles/ppg-default --tables benchmarks/results/quantization

ROWS := runs/ablation
UNALIGNED := $(ROWS)/synchrony-ecg-and-ppg-paired-as-recorded-s0
JITTERED := $(ROWS)/synchrony-lag-jitter-0-1-s-in-the-place-of-alignment-s0

# Judges the encoder beside its baselines, and runs the ablation and the published code's faults: hours; stops and resumes.
encoder: dev
	@$(BIN)/pulsecode evaluate all --run runs/default/ppg --out benchmarks/results/encoder
	@$(BIN)/pulsecode evaluate bidmc --run runs/default/ppg --slow --seeds 1 --out benchmarks/results/networks
	@$(BIN)/pulsecode evaluate af --run runs/default/ppg --slow --seeds 1 --out benchmarks/results/networks
	@$(BIN)/pulsecode evaluate respiration --run runs/default/respiration --out benchmarks/results/encoder
	@mkdir -p benchmarks/results/heads && cp runs/default/heads/plots/*.png benchmarks/results/heads/
	@cp runs/default/respiration/respiration_reliability.png benchmarks/results/heads/respiration.png
	@$(BIN)/pulsecode train tokenizer --exclude bidmc --out runs/audit/tokenizer --resume
	@$(BIN)/pulsecode train encoder --exclude bidmc --tokenizer runs/audit/tokenizer --signal ppg --out runs/audit/ppg --resume
	@$(BIN)/pulsecode evaluate bidmc --run runs/audit/ppg --out benchmarks/results/audit
	@$(BIN)/pulsecode bench ablation --out benchmarks/results
	@$(BIN)/pulsecode bench published --out benchmarks/results
	@$(BIN)/pulsecode bench forms --out benchmarks/results
	@$(BIN)/pulsecode evaluate noise --out benchmarks/results/encoder \
	  --run ships=runs/default/ppg --tokenizer runs/default/tokenizer \
	  --run 'short, with noise=$(ROWS)/base-base-s0/student' --tokenizer $(ROWS)/base-s0/tokenizer \
	  --run 'short, without=$(ROWS)/augmentation-no-measured-noise-s0/student' --tokenizer $(ROWS)/base-s0/tokenizer
	@$(BIN)/pulsecode evaluate misalignment --people 20 --out benchmarks/results/encoder \
	  --run 'aligned=$(ROWS)/base-base-s0/student' --tokenizer $(ROWS)/base-s0/tokenizer \
	  --run 'as recorded=$(UNALIGNED)/student' --tokenizer $(UNALIGNED)/tokenizer \
	  --run 'lag jitter=$(JITTERED)/student' --tokenizer $(JITTERED)/tokenizer

# Regenerates the figures in the README.
figures: dev
	@$(BIN)/pulsecode bench latency --run runs/default/ppg --out benchmarks/results
	@$(BIN)/pulsecode bench alarms --out benchmarks/results
	@$(BIN)/pulsecode monitor 'sim:story?seed=1' --duration 56.5 --fast --picture benchmarks/results/monitor.svg

# Every quantization method beside the others, on fewer stretches than the bundle's own report.
methods: dev
	@$(BIN)/pulsecode quantize runs/default/ppg --out build/methods --methods all --windows 80 --hour 120 --anyway || true
	@for kind in md json png; do cp build/methods/fidelity.$$kind benchmarks/results/quantization/methods.$$kind; done

# The manifest's JSON Schema, after its structs have changed.
schema: dev
	@$(BIN)/pulsecode bundle schema > edge/bundle.schema.json

# The encoder in C, beside the Python engines and on emulated chips (needs arm-none-eabi-gcc and qemu-system-arm).
mcu: dev
	@$(BIN)/pulsecode mcu runs/default/ppg --out build/mcu --self-test --bundle edge/bundles/ppg-default --report benchmarks/results/mcu.md
