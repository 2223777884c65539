# One command per job; `make help` lists them. Each makes .venv first if it is missing or out of date.
VENV = .venv
PROFILE = demo
# Between quotes no shell expands ~.
path = '$(patsubst ~/%,$(HOME)/%,$(1))'
PYTHON = $(if $(VENV),$(call path,$(VENV)/bin/python),python3)
.DEFAULT_GOAL = help
.PHONY: help setup benchmark rehearsal test lint pretrain convert tables clean

help:  ## list these commands
	@echo "make TARGET [NAME=value …]"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' Makefile
	@echo "VENV=  uses the current environment's python3 as it is and installs nothing"
	@echo "CHECKPOINTS is split at spaces: its paths must not contain any; elsewhere quote them: FILE='/path/a b.pth'"

setup:  ## make .venv (about two minutes, 6 GB) unless it exists
	@tools/setup.sh $(call path,$(VENV))

benchmark: setup  ## the whole pipeline: PROFILE=demo (or smoke, small, paper) CHECKPOINTS="mine=/path/a.pth other=/path/b.pth" DATA="/a/root …" SEEDS=3 (pretraining runs of each row) WORKERS=2 EXECUTOR=slurm SLURM="cluster.toml partition=gpu"
	$(PYTHON) -m benchmarks suite $(PROFILE) $(if $(CHECKPOINTS),--checkpoint $(foreach entry,$(CHECKPOINTS),'$(entry)'))$(if $(DATA), --data $(foreach entry,$(DATA),$(call path,$(entry))))$(if $(SEEDS), --pretrain-seeds $(SEEDS))$(if $(WORKERS), --workers $(WORKERS))$(if $(EXECUTOR), --executor $(EXECUTOR))$(if $(SLURM), --slurm $(foreach entry,$(SLURM),$(call path,$(entry))))

rehearsal: setup  ## profile paper from end to end in minutes, before it takes days: CHECKPOINTS="mine=/path/a.pth" DATA="root …" TASKS="knn …"
	$(PYTHON) -m benchmarks rehearsal $(if $(CHECKPOINTS),--checkpoint $(foreach entry,$(CHECKPOINTS),'$(entry)')) $(if $(DATA),--data $(foreach entry,$(DATA),$(call path,$(entry)))) $(if $(TASKS),--task $(TASKS))

test: setup  ## all tests, one process per core (at most 4); ARGS="-k name" for some, in one process
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(if $(ARGS),$(ARGS),-n auto --maxprocesses 4 --dist loadfile)

lint: setup  ## ruff and mypy
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

pretrain: setup  ## one pretraining run: PRESET=smoke-superinfo DATA=folder ARGS="--seed 1"
	$(if $(and $(PRESET),$(DATA)),,$(error give the arguments, as in: make pretrain PRESET=smoke-superinfo DATA=folder))
	$(PYTHON) -m pretrain $(PRESET) --data $(call path,$(DATA)) $(ARGS)

convert: setup  ## a checkpoint into detectron2's format, with proof: FILE=/path/a.pth
	$(if $(FILE),,$(error give the arguments, as in: make convert FILE=/path/a.pth))
	$(PYTHON) -m transfer convert $(call path,$(FILE)) $(ARGS)

tables: setup  ## the tables of PROFILE from the existing records
	$(PYTHON) -m benchmarks tables $(PROFILE)

# DATA_DIR may be a folder of the user's: only data roots go, and leftovers of killed preparations.
clean:  ## remove prepared data and features; records, checkpoints, converted weights and tables stay
	rm -rf "$${RESULTS_DIR:-results}/features"
	data="$${DATA_DIR:-$${RESULTS_DIR:-results}/data}"; \
	for about in "$$data"/*/data.json; do ! grep -qs '"synthetic":' "$$about" || rm -rf "$${about%/data.json}"; done; \
	rm -rf "$$data"/.*.[0-9]*.tmp; rmdir "$$data" 2>/dev/null || true
