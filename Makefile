# Two commands matter: `make book` builds the site, `make test` checks everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NB ?= notebooks/*.ipynb
ENGINES ?= jax torch

# What the kernels see, in the tests and when notebooks are run: one environment.
export PYTHONHASHSEED := 0
export TF_CPP_MIN_LOG_LEVEL := 3
export OMP_NUM_THREADS := 2
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# In a kernel the inline backend draws; another one would store no pictures.
unexport MPLBACKEND

.DEFAULT_GOAL := help
.PHONY: help setup book site demos pdf test lint format unit nbval linkcheck browser \
	test-engines notebooks views student lock clean \
	bench-steps bench-scale bench-quality bench-book bench-pages bench-site
.NOTPARALLEL:  # the link check reads what the site build wrote, also under -j

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' Makefile

$(VENV)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v \
	<= (3, 13) else "This book needs Python 3.11, 3.12 or 3.13. Received: %d.%d. \
	Choose one with: make PYTHON=python3.12 ..." % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "Python cannot make a virtual environment. On Debian or Ubuntu:" \
	"sudo apt-get install python3-venv"; exit 1; }
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@$(BIN)/python -m ipykernel install --sys-prefix --name python3 >/dev/null 2>&1
	@touch $@

setup: $(VENV)/.ready  ## make .venv with the pinned packages

book: setup site  ## build the website into _build/html
	@echo
	@echo "Done. Open _build/html/index.html in a browser, or serve it:"
	@echo "    $(BIN)/python -m http.server --directory _build/html"

site:
	$(BIN)/jupyter-book build . -W -n --keep-going --all --quiet

pdf: setup site  ## print the whole book into _build/book.pdf (needs Chromium)
	$(BIN)/python tools/make_pdf.py

test: setup lint unit nbval site linkcheck browser  ## check everything: code, notebooks, site
	@echo "All checks passed."

lint:  ## ruff, notebooks included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format:  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit:
	MPLBACKEND=Agg KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests \
	--ignore tests/test_site.py --ignore tests/browser

nbval:
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest --nbval \
	--nbval-cell-timeout=600 --durations=5 -p no:warnings notebooks

linkcheck:
	$(BIN)/python -m pytest tests/test_site.py

browser:
	$(BIN)/python -m pytest tests/browser

$(VENV)/.jax: $(VENV)/.ready requirements-jax.txt
	$(PIP) install --require-hashes -r requirements-jax.txt
	@touch $@

# PyTorch is not pinned: which build fits (CPU or CUDA) depends on the machine.  One
# that is installed already, in the version asked for, is left alone.
$(VENV)/.torch: $(VENV)/.ready
	$(PIP) install "torch>=2.8"
	@touch $@

test-engines: setup $(addprefix $(VENV)/.,$(ENGINES))  ## the engine tests on JAX and PyTorch
	@for engine in $(ENGINES); do echo "== $$engine"; \
	MPLBACKEND=Agg KERAS_BACKEND=$$engine $(BIN)/python -m pytest tests -m engines || exit 1; done

notebooks: setup  ## run notebooks (NB=...) from a fresh kernel and store the outputs
	KERAS_BACKEND=tensorflow $(BIN)/python tools/make_notebooks.py $(NB)

views: setup  ## write the editable views of the notebooks into .jupytext/
	$(BIN)/python tools/make_notebooks.py --views $(NB)

student: setup  ## copies of the notebooks without solutions, in student/
	$(BIN)/python tools/make_notebooks.py --student $(NB)

# An environment of its own, so that JAX and PyTorch do not change .venv.
.venv-engines/.ready: requirements-jax.txt pyproject.toml
	@test -x .venv-engines/bin/python || $(PYTHON) -m venv .venv-engines
	@echo '*' > .venv-engines/.gitignore
	.venv-engines/bin/python -m pip install --quiet --require-hashes -r requirements-jax.txt
	.venv-engines/bin/python -m pip install --quiet "torch>=2.8"
	.venv-engines/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

bench-steps: .venv-engines/.ready  ## training speed on the three engines
	.venv-engines/bin/python -m benchmarks.steps

bench-scale: setup  ## training speed against size
	KERAS_BACKEND=tensorflow $(BIN)/python -m benchmarks.scale

bench-quality: setup  ## quality of the pictures against seconds of training
	KERAS_BACKEND=tensorflow $(BIN)/python -m benchmarks.quality

bench-book: setup  ## notebooks, site, imports, tests (or PARTS=...) against their budgets
	$(BIN)/python -m benchmarks.book $(PARTS)

bench-site: setup site  ## weight and speed of every page in Chromium
	$(BIN)/python -m benchmarks.site

bench-pages: setup  ## write the pages of results from benchmarks/results/
	$(BIN)/python -m benchmarks.page

demos: setup  ## train the models of the live demos and write them, with their pictures
	KERAS_BACKEND=tensorflow $(BIN)/python -m tools.export_models

lock:  ## pin the requirements again (needs the network)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && "$$scratch/bin/python" -m pip install -q uv && \
	PATH="$$scratch/bin:$$PATH" sh tools/lock.sh

clean:  ## remove what was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache student
