# make demo   set up, run notebooks 00-07 on a laptop, and say where the report is
# make test   set up, run the quick tests      make test-full   all tests
# make lab    open JupyterLab                  make clean       remove .venv and the demo and smoke runs
# make review open the page where people review the chains of a run (after notebook 02)
# make rank   open the page where people rank the answers blind (after notebook 07)
# make try    open the page on which a run's models reply to a letter, behind a screen for crises
# make ablations  the runs of params/ablations/ and notebook 08 (hours); run again, it makes what is missing
# make badges REPOSITORY=owner/name  before publishing: the address that Colab and Kaggle fetch the kit from, in every notebook
# make check-exports  try outputs/<run>/export/ on the real LLaMA-Factory and verl
# Another profile, or fewer cores: make demo PARAMS=params/paper.yaml CORES=1

PYTHON ?= python3
PARAMS ?= params/demo.yaml
CORES ?= all
OVERRIDES ?= {}
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
SNAKEMAKE = snakemake --cores $(CORES) --config params=$(PARAMS) overrides='$(OVERRIDES)'

.PHONY: demo ablations setup test test-full lab review rank try badges check-exports clean

demo: setup
	@echo "The whole chain with $(PARAMS): dataset, chains of empathy, SFT, reward model, GRPO, evaluation, ranking."
	@if [ -n "$$(ls .snakemake/locks 2>/dev/null)" ]; then $(SNAKEMAKE) --unlock --quiet all; fi
	$(SNAKEMAKE) --quiet host rules reason
	@python -c 'import json, sys; from empathy_lib.params import load_params; \
	p = load_params(sys.argv[1], json.loads(sys.argv[2])); \
	print(f"Done. The report: {p.outputs}/{p.run}/report.html")' '$(PARAMS)' '$(OVERRIDES)'

ablations: PARAMS = params/ablation.yaml
ablations: setup
	@echo "The sweep of ablations on $(PARAMS): one run for each file in params/ablations/; a run that fails stops no other."
	@if [ -n "$$(ls .snakemake/locks 2>/dev/null)" ]; then $(SNAKEMAKE) --unlock --quiet all; fi
	$(SNAKEMAKE) --quiet host rules reason -- ablations
	@python -c 'import json, sys; from empathy_lib.params import load_params; \
	p = load_params(sys.argv[1], json.loads(sys.argv[2])); \
	print(f"Done. The tables: {p.outputs}/{p.run}/ablations.html")' '$(PARAMS)' '$(OVERRIDES)'

setup: .venv/ready

.venv/ready: constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	f"This kit needs Python 3.11 or newer; $(PYTHON) is {v.major}.{v.minor}. Try: make PYTHON=python3.11 setup" or 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv module: install it (on Debian \
	and Ubuntu: apt install python3-venv), or name another: make PYTHON=... setup"; exit 1; }
	@$(PYTHON) -c 'import shutil, sys; free = shutil.disk_usage(".").free / 1e9; sys.exit(free < 5 and \
	f"The environment and the demo need 5 GB of disk; {free:.1f} GB are free here." or 0)'
	@echo "Setting up .venv (about 2.5 GB) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# torch first and named exactly, so that the CPU build is taken where one is offered; unsloth last and without
	@# its dependencies, because with them it cannot be resolved; on a CPU it needs nothing more, on a GPU what the extra names
	@$(BIN)/python -m pip install -q $$(grep '^torch==' constraints.txt)
	@$(BIN)/python -m pip install -q -c constraints.txt -e ".[test$$(command -v nvidia-smi > /dev/null && echo ,gpu)]"
	@$(BIN)/python -m pip install -q -c constraints.txt --no-deps unsloth unsloth_zoo
	@touch $@

test: setup
	@echo "Quick tests: units, every notebook once on params/smoke.yaml, two identical runs, two kills."
	python -m pytest -m "not slow and not gpu"

test-full: test
	@echo "The slow tests, two at a time, and those that need a GPU."
	python -m pytest -m "slow and not gpu" -n 2 --dist worksteal
	python -m pytest -m gpu

lab: setup
	jupyter lab notebooks/00_start_here.ipynb

review: setup
	@python -c 'import json, sys; from empathy_lib.params import load_params; from empathy_lib.review_page import launch; \
	from empathy_lib.run import Run; launch(Run(load_params(sys.argv[1], json.loads(sys.argv[2]))).dir)' \
	'$(PARAMS)' '$(OVERRIDES)'

rank: setup
	@python -c 'import json, sys; from empathy_lib.params import load_params; from empathy_lib.ranking_page import launch; \
	from empathy_lib.run import Run; p = load_params(sys.argv[1], json.loads(sys.argv[2])); launch(Run(p).dir, p.seed, p.language)' \
	'$(PARAMS)' '$(OVERRIDES)'

try: setup
	@python -c 'import json, sys; from empathy_lib.params import load_params; from empathy_lib.conversation_page import launch; \
	from empathy_lib.run import Run; launch(Run(load_params(sys.argv[1], json.loads(sys.argv[2]))))' '$(PARAMS)' '$(OVERRIDES)'

badges: setup
	python notebooks/badges.py '$(REPOSITORY)'

check-exports: setup
	@echo "The exports of a smoke run, tried on LLaMA-Factory and verl themselves, each in its own environment (some GB)."
	snakemake --cores $(CORES) --config params=params/smoke.yaml --quiet host rules reason --until 05_grpo
	@python tests/exports/expect.py outputs/smoke
	@for name in llamafactory verl; do test -f .venv-$$name/ready || { $(PYTHON) -m venv .venv-$$name \
	&& .venv-$$name/bin/python -m pip install -q $$(grep '^torch==' constraints.txt) \
	&& .venv-$$name/bin/python -m pip install -q -r tests/exports/$$name.txt && touch .venv-$$name/ready; } || exit 1; done
	.venv-llamafactory/bin/python tests/exports/with_llamafactory.py outputs/smoke/export/llama_factory
	PYTHONPATH=. .venv-verl/bin/python tests/exports/with_verl.py outputs/smoke/export/verl

clean:
	rm -rf .venv .venv-llamafactory .venv-verl .snakemake outputs/smoke *.egg-info
	@# what reviewers and raters have decided stays
	if [ -d outputs/demo ]; then find outputs/demo -mindepth 1 -maxdepth 1 ! -name review ! -name ratings -exec rm -rf {} +; fi
