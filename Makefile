# Everything a newcomer needs: only Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
VLLM_VENV := .venv-vllm
VLLM_TESTS := tests/engines/test_vllm_contract.py tests/engines/test_vllm_processes.py tests/engines/test_openai_contract.py
BIN := $(VENV)/bin
OUT ?= runs/demo
CHECKPOINTS := train/checkpoints
RUNGS := pt sft hfft cohft ppo ppo-hacked
# What the preferences, the reward model and PPO are about; the other skills are to stay as they were.
TRAINED := ladder_safety,ladder_wishes
SEEDS ?= 1 2 3
LADDER ?= runs/ladder
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help demo ladder test test-vllm check format docs clean
help:
	@echo "make demo    evaluate the shipped ladder: stages, comparison, gates, leaderboard"
	@echo "make test    run every test"
	@echo "make test-vllm  run the tests that need vLLM, in an environment of their own"
	@echo "make check   lint, types, import contracts, task validation"
	@echo "make docs    build the documentation into site/"
	@echo "make ladder  train the ladder anew and write docs/ladder.md (hours; SEEDS=1 for one seed)"

$(VENV)/.installed: constraints.txt pyproject.toml train/pyproject.toml .ci/install.py
	$(PYTHON) .ci/install.py $(VENV)
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/evalsuite run $(RUNGS:%=--model $(CHECKPOINTS)/tiny-%) --tasks 'ladder_*' --sampling temperature=1 --out $(OUT)
	$(BIN)/evalsuite reward $(RUNGS:%=$(OUT)/tiny-%) --rm $(CHECKPOINTS)/tiny-rm --tasks $(TRAINED)
	$(BIN)/evalsuite reward $(RUNGS:%=$(OUT)/tiny-%) --rm $(CHECKPOINTS)/tiny-rm-weak --tasks $(TRAINED)
	$(BIN)/evalsuite compare $(OUT)/tiny-sft $(OUT)/tiny-ppo
	$(BIN)/evalsuite gate --baseline $(OUT)/tiny-sft --candidate $(OUT)/tiny-ppo --max-drop 5pt
	@echo "The next gate is meant to close: exit code 1 is a regression."
	$(BIN)/evalsuite gate --baseline $(OUT)/tiny-sft --candidate $(OUT)/tiny-ppo-hacked --max-drop 5pt --tasks $(TRAINED); test $$? -eq 1
	$(BIN)/evalsuite leaderboard leaderboards/demo.yaml --runs $(OUT)
	$(BIN)/evalsuite stages leaderboards/stages/ladder.yaml --runs $(OUT) --html $(OUT)/stages.html

# Every seed from nothing, greedy and sampled; evalsuite tells the seeds apart by the checkpoints' cards.
ladder: $(VENV)/.installed
	for seed in $(SEEDS); do \
	  $(BIN)/evalsuite-train ladder --recipe tiny --seed $$seed --work $(LADDER)/seed-$$seed || exit 1; \
	  $(MAKE) --no-print-directory ladder-evaluated SEED=$$seed || exit 1; \
	done
	$(BIN)/evalsuite stages leaderboards/stages/ladder.yaml --runs $(LADDER)/evaluated --markdown docs/ladder.md

.PHONY: ladder-evaluated
ladder-evaluated:
	for sampling in greedy temperature=1; do \
	  $(BIN)/evalsuite run $(RUNGS:%=--model $(LADDER)/seed-$(SEED)/%/checkpoint) --tasks 'ladder_*' \
	    --sampling $$sampling --out $(LADDER)/evaluated/seed-$(SEED)-$${sampling%%=*} || exit 1; \
	  for rung in $(RUNGS); do for rm in rm rm-weak; do \
	    $(BIN)/evalsuite reward $(LADDER)/evaluated/seed-$(SEED)-$${sampling%%=*}/tiny-$$rung --rm $(LADDER)/seed-$(SEED)/$$rm/checkpoint --tasks $(TRAINED) || exit 1; \
	  done; done; \
	done

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PYTEST)

$(VLLM_VENV)/.installed: constraints.txt pyproject.toml .ci/install.py .ci/install_vllm.py
	$(PYTHON) .ci/install_vllm.py $(VLLM_VENV)
	@touch $@

test-vllm: $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/python -m pytest $(VLLM_TESTS) $(PYTEST)

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/evalsuite tasks check

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed
	$(BIN)/mkdocs build --strict -f docs/mkdocs.yml --site-dir ../site

clean:
	rm -rf $(VENV) $(VLLM_VENV) runs site .pytest_cache .mypy_cache .ruff_cache
