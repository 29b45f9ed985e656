"""In an environment with llamafactory: does it read our YAML, build from our JSON the tokens that TRL trains on, and train?
``python with_llamafactory.py <folder of the export>``; see ``make check-exports``."""

import json
import os
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import get_train_args  # noqa: E402
from llamafactory.model import load_tokenizer  # noqa: E402
from llamafactory.train.tuner import run_exp  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

folder = Path(sys.argv[1]).resolve()
os.chdir(folder)
values = OmegaConf.to_container(OmegaConf.load(folder / "sft.yaml"))
expected = json.loads((folder / "expected.json").read_text("utf-8"))

model, data, training, finetuning, _ = get_train_args(dict(values))
for name, value in values.items():
    held = next(getattr(block, name) for block in (model, data, training, finetuning) if hasattr(block, name))
    same = held == value or str(getattr(held, "value", held)) == str(value) or name in ("dataset", "lora_target", "report_to")
    assert same, f"{name}: {value!r} was read as {held!r}"

tokenizer = load_tokenizer(model)["tokenizer"]
template = get_template_and_fix_tokenizer(tokenizer, data)
rows = get_dataset(template, model, data, training, "sft", tokenizer)["train_dataset"]
newline = tokenizer("\n", add_special_tokens=False).input_ids
assert len(rows) == len(expected) > 0
for row, one in zip(rows, expected):
    prompt, completion = one["prompt"], one["completion"]
    assert row["input_ids"] == prompt + completion + newline, one  # its template ends a turn with a line break
    assert row["labels"] == [-100] * len(prompt) + completion + newline
print(f"{len(rows)} rows have TRL's tokens and labels, and a line break at their end")

run_exp({**values, "max_steps": 3, "output_dir": str(folder / "three_steps"), "overwrite_output_dir": True})
log = [json.loads(line) for line in (folder / "three_steps" / "trainer_log.jsonl").read_text().splitlines()]
losses = [line["loss"] for line in log if "loss" in line]
print("losses of three steps:", losses)
assert len(losses) == 3 and all(0 < loss < 20 for loss in losses)
