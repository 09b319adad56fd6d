# Everything a newcomer needs: only Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/demo
# What SFT was trained for. On samples this small a gate on the other tasks answers "inconclusive".
GATED := classification_zh,extraction_zh,open_zh,summarization_zh,translation
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help demo test check format docs clean
help:
	@echo "make demo    evaluate the shipped checkpoints, compare, gate, build a leaderboard"
	@echo "make test    run every test"
	@echo "make check   lint, types, import contracts, task validation"
	@echo "make docs    build the documentation into site/"

$(VENV)/.installed: constraints.txt pyproject.toml .ci/install.py
	$(PYTHON) .ci/install.py $(VENV)
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/evalsuite run --model train/checkpoints/tiny-pt --model train/checkpoints/tiny-sft --tasks all --out $(OUT)
	$(BIN)/evalsuite compare $(OUT)/tiny-pt $(OUT)/tiny-sft
	$(BIN)/evalsuite gate --baseline $(OUT)/tiny-pt --candidate $(OUT)/tiny-sft --max-drop 1pt --tasks $(GATED)
	$(BIN)/evalsuite leaderboard leaderboards/demo.yaml --runs $(OUT)

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PYTEST)

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
	rm -rf $(VENV) runs site .pytest_cache .mypy_cache .ruff_cache
