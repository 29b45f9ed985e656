#!/usr/bin/env bash
# For Colab and Kaggle: installs the kit and its pins around what is there. What the running kernel may have loaded already, torch
# and numpy above all, keeps its version. Unsloth comes without its dependencies, as in `make setup`: with them it cannot be
# resolved. It comes last: the notebooks' first cell asks for it.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-python3}"
loaded='torch|numpy|pandas|matplotlib|protobuf|ipykernel|ipywidgets|jupyterlab'
pins="$(mktemp)"
grep -vE "^($loaded)==" constraints.txt > "$pins"
"$python" -m pip list --format=freeze | grep -E "^($loaded)==" >> "$pins"
"$python" -m pip uninstall -q -y torchao  # an old one there makes peft refuse LoRA; the kit needs none
"$python" -m pip install -q -c "$pins" -e '.[gpu]'
"$python" -m pip install -q -c "$pins" --no-deps unsloth unsloth_zoo
