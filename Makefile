# make demo: from a fresh checkout to a finished grid job.   make test: everything that is tested.   make help: the rest.
PYTHON ?= python3
V := .venv/bin

.PHONY: help demo test lint bench chaos lock clean
help:
	@echo "make demo                         install, start everything, run the main job, stop"
	@echo "make test                         lint, types, import contract and all tests"
	@echo "make lint                         only the first three"
	@echo "make bench [NAME=x] [SIZE=small]  list the benchmarks, or run one"
	@echo "make chaos [NAME=x] [SEED=1] [MINUTES=1] [TIMES=10] [JOBS=100000]  list the chaos runs, or run one"
	@echo "make lock                         renew requirements/*.txt from pyproject.toml"

demo: .venv/demo
	@$(V)/python -m demo

test: .venv/dev
	@scripts/test

lint: .venv/dev
	@scripts/lint

bench: .venv/dev
	@$(V)/python -m bench $(if $(NAME),run $(NAME) --size $(or $(SIZE),small),list)

chaos: .venv/dev
	@$(V)/python -m bench.chaos $(if $(NAME),run $(NAME) --seed $(or $(SEED),1) --minutes $(or $(MINUTES),1) --times $(or $(TIMES),10) --jobs $(or $(JOBS),100000),list)

.venv/demo: requirements/demo.txt pyproject.toml scripts/install
	@PYTHON="$(PYTHON)" scripts/install demo

.venv/dev: requirements/dev.txt pyproject.toml scripts/install
	@PYTHON="$(PYTHON)" scripts/install dev

lock:
	@scripts/lock

clean:
	rm -rf .venv build demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
