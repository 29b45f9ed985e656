#!/usr/bin/env bash
# For Colab and Kaggle: installs the kit and its pins around the torch that is there, with what Unsloth imports on a GPU.
# Unsloth itself comes without its dependencies, as in `make setup`: with them it cannot be resolved.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-python3}"
pins="$(mktemp)"
grep -v '^torch==' constraints.txt > "$pins"
"$python" -c 'import torch; print("keeping torch", torch.__version__)'
"$python" -m pip install -q -c "$pins" -e '.[gpu]'
"$python" -m pip install -q -c "$pins" --no-deps unsloth unsloth_zoo
