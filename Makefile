# The course in two commands: `make course`, then `make lab`. Works with GNU make 3.81 (macOS) and newer.
PROFILE ?= $(or $(BAIZE_PROFILE),laptop)
NOTEBOOK ?= notebooks/00_start_here.ipynb
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TORCH
# JupyterLab wants to be told that root is meant; in a container everybody is root.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# The file browser shows the whole clone, runs/ and data/ too; a notebook elsewhere is opened in its own folder.
LAB_ROOT := $(if $(filter /%,$(NOTEBOOK)),,--ServerApp.root_dir='$(CURDIR)')

# A room without a network: install from a folder that `make wheelhouse` filled, the model as well.
ifdef WHEELHOUSE
export PIP_NO_INDEX := 1
export PIP_FIND_LINKS := $(abspath $(WHEELHOUSE))
endif
# The shared teacher. Set on the command line only: a shell's own HOST must not open it to the network.
HOST = 127.0.0.1
PORT = 8765
STUDENTS = 30
TOKENS = 200000

.PHONY: help more course lab chat test notebooks bench wheels wheelhouse teacher slides book address gpu-check colab-check lowest-check clean

help:
	@echo 'make course               run the whole course (notebooks 00-05) and show what came of it'
	@echo 'make course BEYOND=1      the notebooks beyond the article as well (06-08)'
	@echo 'make course PROFILE=ci    the same with a handful of dialogues, in a few minutes'
	@echo 'make lab                  open JupyterLab on the first notebook; ARGS=--no-browser prints its address only'
	@echo 'make chat                 talk to the model in this terminal: yours, or before you have one the shipped one'
	@echo 'make teacher              one teacher for a whole room: HOST=0.0.0.0 PORT=8765 STUDENTS=30 TOKENS=200000'
	@echo 'make test                 all tests; every notebook is run'
	@echo 'make clean                remove .venv (never your runs/)'
	@echo 'make more                 what there is besides, for those who teach or work on the course'
	@echo
	@echo 'Settings: PROFILE=ci|laptop|colab|paper-7b|paper-13b|paper-30b  PYTHON=...  TORCH=cpu|cuda  and see docs/ for keys'

more:
	@echo 'make wheelhouse           all packages and the model in one folder, for a room without a network'
	@echo 'make course WHEELHOUSE=…  install from such a folder, then the same as make course'
	@echo 'make slides               slides of all notebooks, in slides/'
	@echo 'make book                 a website of the course, in _site/, with the shipped model to talk to'
	@echo 'make address ADDRESS=…    give the course (or a fork of it) its public address: badges for Colab'
	@echo 'make notebooks            run all notebooks in place and bring them into the committed form'
	@echo 'make bench                measure speed against the alternatives, as ratios (an hour)'
	@echo 'make gpu-check            try what a GPU adds, in a few minutes and without a network'
	@echo 'make wheels               check that every pinned version can be installed on every system'
	@echo 'make colab-check          fast tests and all notebooks with the versions that Colab has; 3 GB are fetched once'
	@echo 'make lowest-check         the same with the lowest versions that pyproject.toml allows'

course: $(VENV)/$(if $(BEYOND),beyond,course).stamp
	@BAIZE_PROFILE='$(PROFILE)' $(BIN)/python tools/course.py $(if $(BEYOND),--beyond)

lab: $(VENV)/course.stamp
	BAIZE_PROFILE='$(PROFILE)' $(BIN)/jupyter lab $(AS_ROOT) $(LAB_ROOT) $(ARGS) '$(NOTEBOOK)'

chat: $(VENV)/course.stamp
	@BAIZE_PROFILE='$(PROFILE)' $(BIN)/python tools/talk.py

# Two processes of one thread each: two of two threads on two cores would wait for each other most of the time.
# conftest.py says what stays together: 00-05 go on from each other's artifacts, as in the course. No key is used.
test: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/python tools/course.py --fetch
	OMP_NUM_THREADS=1 $(BIN)/pytest notebooks tests -n 2 --dist loadfile --no-loadscope-reorder \
	--nbval-lax --nbval-current-env --nbval-cell-timeout=400

notebooks: $(VENV)/test.stamp
	$(BIN)/ruff format notebooks
	BAIZE_PROFILE=laptop $(BIN)/python tools/run_notebooks.py

gpu-check: $(VENV)/test.stamp
	HF_HUB_OFFLINE=1 $(BIN)/python tools/gpu_check.py

bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/selfchat.py
	$(BIN)/python benchmarks/corpus.py
	$(BIN)/python benchmarks/finetune.py
	$(BIN)/python benchmarks/forecast.py
	$(BIN)/python benchmarks/chat.py
	$(BIN)/python benchmarks/classroom.py

wheels: $(VENV)/test.stamp
	$(BIN)/python tools/check_wheels.py

colab-check lowest-check: $(VENV)/test.stamp
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/python tools/version_check.py $(@:-check=)

wheelhouse: $(VENV)/made.stamp
	@$(BIN)/python tools/wheelhouse.py

teacher: $(VENV)/course.stamp
	@$(BIN)/python tools/classroom.py --host '$(HOST)' --port '$(PORT)' --students '$(STUDENTS)' --tokens '$(TOKENS)'

slides: $(VENV)/course.stamp
	@$(BIN)/python tools/slides.py

book: $(VENV)/book.stamp
	@$(BIN)/python tools/book.py

address: $(VENV)/course.stamp
	@$(BIN)/python tools/address.py '$(ADDRESS)'

clean:
	rm -rf $(VENV)

# --clear: whatever an interrupted run left there is no environment.
$(VENV)/made.stamp:
	@python=$$(sh tools/find_python.sh $(PYTHON)) && echo "Making $(VENV) with $$python" && \
	"$$python" -m venv --clear $(VENV) && touch $@

$(VENV)/course.stamp: pyproject.toml constraints.txt $(VENV)/made.stamp
	@echo 'Installing the packages into $(VENV) (once; some minutes) ...'
	@$(BIN)/python tools/torch_build.py
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

# Notebook 08 can do without Ray, and shows more with it.
$(VENV)/beyond.stamp: $(VENV)/course.stamp
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[scale]'
	@touch $@

$(VENV)/book.stamp: $(VENV)/course.stamp
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[book]'
	@touch $@

# The tests' packages come on top, so an environment for the tests is one for the course as well.
$(VENV)/test.stamp: $(VENV)/course.stamp
	@echo 'Installing what the tests need ...'
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,book]'
	@touch $@
