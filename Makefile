# make demo   install into .venv, train and detect on generated data: a few minutes
# make test   install into .venv and run the tests, in JOBS=2 processes
PYTHON ?= python3
RUN = .venv/bin/python
JOBS ?= 2

demo: .venv/installed
	$(RUN) -m pixelkeep demo

# A worker that dies ends the run and names the test; replaced, pytest-xdist would wait for it for ever.
test: .venv/installed
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS) --dist loadfile --max-worker-restart 0

test-slow: .venv/installed
	$(RUN) -m pytest -m slow

lint: .venv/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

check-demo: .venv/installed
	$(RUN) scripts/check_demo.py

check-releases: .venv/installed
	$(RUN) scripts/check_releases.py

# Paths stay relative and tools run as modules: the checkout's path may hold spaces, which scripts' first lines cannot.
.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "pixelkeep needs Python 3.10 or newer; try make PYTHON=python3.12")'
	test -x $(RUN) || $(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --upgrade pip
	@echo "Installing torch, ultralytics and the rest into .venv: a few minutes, once"
	PYTHONWARNINGS=ignore $(RUN) -m pip install --quiet --editable '.[dev]'
	@touch $@

.PHONY: demo test test-slow lint check-demo check-releases
