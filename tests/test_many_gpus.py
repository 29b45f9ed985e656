"""Training by several processes, with two on the CPU in the place of two GPUs: the same updates as by one, resumed after a
kill, and notebooks that go on from the model."""

import json
import subprocess

import pandas as pd
import pytest

from conftest import BIN, SMOKE, copy_run, environment, holder, kill, run_notebook, start_notebook, wait_for
from empathy_lib import ROOT, many_gpus, policy
from empathy_lib.params import ParamsError, load_params
from empathy_lib.schema import read_jsonl

OVERRIDES = {"policy.backend": "transformers", "sft.epochs": 8, "sft.save_steps": 5,  # 24 chains: 3 updates an epoch
             "grpo.max_steps": 4, "grpo.save_steps": 50, "grpo.save_every_minutes": 0.0001}


@pytest.mark.parametrize("processes, sft, grpo", [(1, (4, 4), (16, 2)), (2, (4, 2), (16, 1)), (4, (4, 1), (8, 1)), (8, (2, 1), (4, 1))])
def test_shares_of_the_paper_scale(processes, sft, grpo):
    paper = load_params("params/paper.yaml")
    part = many_gpus.share(paper, processes)
    assert [(b.batch_size, b.gradient_accumulation) for b in (part.sft, part.grpo)] == [sft, grpo]
    assert part.model_copy(update={"sft": paper.sft, "grpo": paper.grpo}) == paper  # nothing else changes
    for before, after in ((paper.sft, part.sft), (paper.grpo, part.grpo)):
        assert before.batch_size * before.gradient_accumulation == processes * after.batch_size * after.gradient_accumulation


@pytest.mark.parametrize("stage, processes, says", [
    ("03_sft", 3, r"demo_model.batch_size: 16 .* by 3 processes: make it a multiple of 3"),
    ("05_grpo", 16, r"grpo.batch_size: 8 \(gradient accumulation 1\) .* multiple of 16, or start another number")])
def test_a_batch_that_cannot_be_shared(stage, processes, says):
    with pytest.raises(ValueError, match=says):
        many_gpus.share(load_params(SMOKE), processes, many_gpus.BLOCKS[stage])


def test_only_what_the_stage_trains_is_shared():
    p = load_params(SMOKE, {"sft.batch_size": 5, "grpo.gradient_accumulation": 3})
    part = many_gpus.share(p, 6, many_gpus.BLOCKS["05_grpo"])
    assert part.sft == p.sft and (part.grpo.batch_size, part.grpo.gradient_accumulation) == (4, 1)


def test_unsloth_is_for_one_gpu():
    with pytest.raises(ParamsError, match="policy.backend: unsloth .* set it to transformers for the whole run"):
        many_gpus.train("03_sft", load_params(SMOKE))


def torchrun(stage, overrides):
    return subprocess.Popen(
        [BIN / "torchrun", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2", "-m", "empathy_lib.many_gpus", stage,
         SMOKE, json.dumps(overrides)], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-4000:]
    return output


def goes_on(stage, run, out, overrides):
    """The notebook after ``many_gpus``: it does not train, and ends with the stage's metrics."""
    model, log = run / stage / "model" / "model.safetensors", run / stage / "log.jsonl"
    before = model.stat().st_mtime_ns, model.read_bytes(), log.read_bytes()
    policy.load(run / stage / "model", load_params(SMOKE, overrides))
    run_notebook(stage, out, overrides)
    assert (model.stat().st_mtime_ns, model.read_bytes(), log.read_bytes()) == before and not (run / ".superseded").exists()
    return json.loads((run / stage / "metrics.json").read_text())


@pytest.mark.slow
def test_two_processes_train_as_one_and_the_notebooks_go_on(tmp_path):
    def told(place):
        return OVERRIDES | {"outputs": str(tmp_path / place)}

    one, two, out = tmp_path / "one" / "smoke", tmp_path / "two" / "smoke", tmp_path / "executed"
    for stage in ("01_dataset", "02_coe"):
        run_notebook(stage, out, told("two"))
    copy_run(two, one)

    alone = start_notebook("03_sft", tmp_path / "alone", told("one"))
    killed = torchrun("03_sft", told("two"))
    wait_for(lambda: (two / "03_sft" / "checkpoint-5" / "trainer_state.json").exists(), "the checkpoint", process=killed)
    kill(holder(two, "03_sft"))
    killed.communicate(timeout=60)
    assert killed.returncode and not (two / "03_sft" / "model").exists()
    said = finish(torchrun("03_sft", told("two")))
    finish(alone)
    assert said.count("step 24 of 24") == 1  # rank 0 alone prints
    logs = [read_jsonl(run / "03_sft" / "log.jsonl") for run in (one, two)]
    assert len(logs[0]) == len(logs[1]) == 24
    assert [row["loss"] for row in logs[1][:3]] == pytest.approx([row["loss"] for row in logs[0][:3]], rel=2e-3)
    assert goes_on("03_sft", two, out, told("two"))["updates"] == 24

    run_notebook("04_reward_model", out, told("two"))
    copy_run(two, one := tmp_path / "alone" / "smoke")
    alone = start_notebook("05_grpo", tmp_path / "alone", told("alone"))
    finish(torchrun("05_grpo", told("two")))
    finish(alone)
    steps = [[row["step"] for row in read_jsonl(run / "05_grpo" / "log.jsonl") if "reward" in row] for run in (one, two)]
    assert steps == [[1, 2, 3, 4]] * 2
    for step in steps[0]:  # the same questions, four completions each, from both processes
        asked = [pd.read_parquet(run / "05_grpo" / "completions" / f"completions_0000{step}.parquet").prompt.to_list() for run in (one, two)]
        assert asked[0] == asked[1] and len(asked[0]) == 8
    parts = [{path.name for path in folder.glob("rng_state*")} for folder in (two / "05_grpo").glob("checkpoint-*")]
    assert parts == [{"rng_state_0.pth", "rng_state_1.pth"}] * 2  # by the clock, yet of every process
    assert goes_on("05_grpo", two, out, told("two"))["steps"] == 4
