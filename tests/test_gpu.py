"""The equation and resume tests once more on a GPU, where Unsloth replaces parts of the trainers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import run_notebook
from test_resume import LORA, killed_then_resumed

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GPU = LORA | {"policy.dtype": "auto"}


@pytest.fixture(scope="module")
def gpu_run(tmp_path_factory) -> Path:
    """Stages 01 to 05 with LoRA in the GPU's own number format."""
    outputs = tmp_path_factory.mktemp("gpu")
    for stage in ("01_dataset", "02_coe", "03_sft", "04_reward_model", "05_grpo"):
        run_notebook(stage, outputs / "executed", {"outputs": str(outputs)} | GPU)
    return outputs / "smoke"


def test_advantages_are_eq_1_and_the_policy_moves(gpu_run):
    log = [json.loads(line) for line in (gpu_run / "05_grpo/log.jsonl").read_text().splitlines()]
    assert any("eval_navg" in row for row in log)  # Unsloth once logged these as training's
    log = [row for row in log if "reward" in row]
    assert abs(log[0]["kl"]) < 1e-3 < log[-1]["kl"]  # the reference is the SFT policy, not the base
    for file in sorted((gpu_run / "05_grpo/completions").glob("*.parquet")):
        rows = pd.read_parquet(file)
        r = (rows.format_reward + rows.r_answer).to_numpy().reshape(-1, 4)
        assert np.allclose(((r - r.mean(1, keepdims=True)) / (r.std(1, ddof=1, keepdims=True) + 1e-4)).ravel(), rows.advantage, atol=1e-3)


@pytest.mark.parametrize("stage", ["03_sft", "05_grpo"])
def test_killed_kernel_goes_on_with_the_policy_it_had(gpu_run, tmp_path, stage):
    from conftest import copy_run

    later = ["05_grpo"] + (["03_sft"] if stage == "03_sft" else [])
    run = copy_run(gpu_run, tmp_path / "outputs" / "smoke", *later)
    resumed = json.loads(killed_then_resumed(stage, run, tmp_path, GPU, "after-1"))
    whole = json.loads((gpu_run / stage / "metrics.json").read_text())
    key = ("loss", "last") if stage == "03_sft" else ("last_fifth", "kl")
    assert resumed[key[0]][key[1]] == pytest.approx(whole[key[0]][key[1]], rel=0.1)
