# Two commands matter: `make book` builds the site, `make test` checks everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
NB ?= notebooks/*.ipynb
BASE ?= main
BACKENDS ?= $(or $(ENGINES),tensorflow jax torch)
# Two files at a time: two notebooks, or the pages beside the demos.
TWO := -n 2 --dist loadfile

# What the kernels see, in the tests and when notebooks are run: one environment, which
# tools/install_kernel.py also gives to JupyterLab.
export PYTHONHASHSEED := 0
export TF_CPP_MIN_LOG_LEVEL := 3
export OMP_NUM_THREADS := 2
export PYDEVD_DISABLE_FILE_VALIDATION := 1
# In a kernel the inline backend draws; another one would store no pictures.
unexport MPLBACKEND

.DEFAULT_GOAL := help
.PHONY: help setup book site demos pretrained pdf test test-changed lint format unit nbval \
	linkcheck browser test-backends test-engines notebooks notebooks-backends views \
	student lock clean mutants \
	bench-steps bench-scale bench-gpu bench-quality bench-laptop bench-book \
	bench-pages bench-site bench-decoding bench-cures bench-wgan bench-conditional \
	bench-diffusion bench-scoreboard bench-shakespeare
.NOTPARALLEL:  # the link check reads what the site build wrote, also under -j

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-18s %s\n", $$1, $$2}' Makefile

$(VENV)/.ready: requirements.txt pyproject.toml tools/install_kernel.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v \
	<= (3, 13) else "This book needs Python 3.11, 3.12 or 3.13. Received: %d.%d. \
	Choose one with: make PYTHON=python3.12 ..." % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "Python cannot make a virtual environment. On Debian or Ubuntu:" \
	"sudo apt-get install python3-venv"; exit 1; }
	$(PIP) install --require-hashes -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@$(BIN)/python tools/install_kernel.py
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

test-changed: setup lint unit  ## lint, package tests, notebooks that differ from BASE=main
	@$(BIN)/python tools/changed.py --base $(BASE) --why
	@found=$$($(BIN)/python tools/changed.py --base $(BASE)) && \
	if [ -n "$$found" ]; then $(MAKE) --no-print-directory nbval NB="$$found"; \
	else echo "No notebook is touched by what differs from $(BASE)."; fi

lint:  ## ruff, notebooks included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format:  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit:
	MPLBACKEND=Agg KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests $(TWO) \
	--ignore tests/test_site.py --ignore tests/browser

nbval:  ## compare the outputs of the notebooks (NB=...), two at a time
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest --nbval $(TWO) \
	--nbval-cell-timeout=600 --durations=5 -p no:warnings $(NB)

linkcheck:
	$(BIN)/python -m pytest tests/test_site.py

browser:
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/browser

# The three backends share an environment of their own, so that .venv stays as pinned.
.venv-engines/.ready: requirements-jax.txt pyproject.toml tools/install_kernel.py
	@test -x .venv-engines/bin/python || $(PYTHON) -m venv .venv-engines
	@echo '*' > .venv-engines/.gitignore
	.venv-engines/bin/python -m pip install --quiet --require-hashes -r requirements-jax.txt
	.venv-engines/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@.venv-engines/bin/python tools/install_kernel.py
	@touch $@

# PyTorch is not pinned: which build fits (CPU or CUDA) depends on the machine.  One
# that is installed already, in the version asked for, is left alone.
.venv-engines/.torch: .venv-engines/.ready
	.venv-engines/bin/python -m pip install --quiet "torch>=2.8"
	@touch $@

NEEDED = .venv-engines/$(if $(filter torch,$(BACKENDS)),.torch,.ready)

test-backends: $(NEEDED)  ## the tests of the models on BACKENDS="tensorflow jax torch"
	@for backend in $(BACKENDS); do echo "== $$backend"; MPLBACKEND=Agg \
	KERAS_BACKEND=$$backend .venv-engines/bin/python -m pytest tests $(TWO) -m engines \
	--ignore tests/test_site.py --ignore tests/browser || exit 1; done

test-engines: test-backends  # the old name

# The tool is no part of .venv, whose packages stay as pinned; it only reads from there.
.venv-mutants/.ready:
	@test -x .venv-mutants/bin/python || $(PYTHON) -m venv .venv-mutants
	@echo '*' > .venv-mutants/.gitignore
	.venv-mutants/bin/python -m pip install --quiet "cosmic-ray==8.7.0"
	@touch $@

mutants: setup .venv-mutants/.ready  ## random faults in a copy: which does no test notice?
	OMP_NUM_THREADS=1 $(BIN)/python tools/mutants.py $(MUTANTS)

notebooks-backends: .venv-engines/.torch  ## run notebooks (NB=...) on JAX and PyTorch
	.venv-engines/bin/python tools/run_backends.py $(NB)

notebooks: setup  ## run notebooks (NB=...) from a fresh kernel and store the outputs
	KERAS_BACKEND=tensorflow $(BIN)/python tools/make_notebooks.py $(NB)

views: setup  ## write the editable views of the notebooks into .jupytext/
	$(BIN)/python tools/make_notebooks.py --views $(NB)

student: setup  ## copies of the notebooks without solutions, in student/
	$(BIN)/python tools/make_notebooks.py --student $(NB)

bench-steps: .venv-engines/.torch  ## training speed on the three backends
	.venv-engines/bin/python -m benchmarks.steps

bench-scale: setup  ## training speed against size
	KERAS_BACKEND=tensorflow $(BIN)/python -m benchmarks.scale

# Any Python with Keras on JAX or PyTorch will do: GPU_PYTHON=~/genai-gpu/bin/python
bench-gpu: $(if $(GPU_PYTHON),,.venv-engines/.torch)  ## tests and speed on a graphics card
	$(or $(GPU_PYTHON),.venv-engines/bin/python) -m benchmarks.gpu $(ARGS)

bench-quality: setup  ## quality of the pictures against seconds of training
	KERAS_BACKEND=tensorflow $(BIN)/python -m benchmarks.quality

bench-laptop: setup  ## the DCGAN in seconds of a slow laptop
	KERAS_BACKEND=tensorflow $(BIN)/python -m benchmarks.laptop

bench-decoding: .venv-engines/.torch  ## tokens a second with a KV cache and without
	.venv-engines/bin/python -m benchmarks.decoding

bench-shakespeare: .venv-engines/.torch  ## a GPT against nanoGPT's recipe; long sums
	.venv-engines/bin/python -m benchmarks.shakespeare

# The tables of chapters 12, 13, 14 and 25, and of Part V
bench-cures bench-wgan bench-conditional bench-diffusion bench-scoreboard: setup  ## tables of chapters
	KERAS_BACKEND=tensorflow $(BIN)/python -m benchmarks.$(@:bench-%=%)

bench-book: setup  ## notebooks, site, imports, tests (or PARTS=...) against their budgets
	$(BIN)/python -m benchmarks.book $(PARTS)

bench-site: setup site  ## weight and speed of every page in Chromium
	$(BIN)/python -m benchmarks.site

bench-pages: setup  ## write the pages of results from benchmarks/results/
	$(BIN)/python -m benchmarks.page

demos: setup  ## train the models of the live demos and write them, with their pictures
	KERAS_BACKEND=tensorflow $(BIN)/python -m tools.export_models

pretrained: setup  ## train again the models whose weights come with the package
	KERAS_BACKEND=tensorflow $(BIN)/python tools/train_pretrained.py

lock:  ## pin the requirements again (needs the network)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && "$$scratch/bin/python" -m pip install -q uv && \
	PATH="$$scratch/bin:$$PATH" sh tools/lock.sh

clean:  ## remove what was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache student
