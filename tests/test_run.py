import json
import os
import subprocess
import sys

import pytest

from empathy_lib.params import load_params
from empathy_lib.run import Run, StageMissing, building, checkpoint

TAKE = """
import sys, time
from empathy_lib.params import load_params
from empathy_lib.run import Run
run = Run(load_params("params/smoke.yaml", {"outputs": sys.argv[1]}))
run.begin("01_dataset")
print("held", flush=True)
sys.stdin.readline()
run.record("01_dataset", {"n": 1})
"""


def run_of(tmp_path, **overrides):
    return Run(load_params("params/smoke.yaml", {"outputs": str(tmp_path)} | overrides))


def finish(run, stage, metrics=None, **files):
    folder = run.begin(stage)
    for name, text in files.items():
        (folder / f"{name}.jsonl").write_text(text)
    run.record(stage, metrics or {"n": 1})
    return folder


def test_a_stage_needs_those_before_it(tmp_path):
    with pytest.raises(StageMissing, match="01_dataset.*notebooks/01"):
        run_of(tmp_path).begin("02_coe")
    finish(run_of(tmp_path), "01_dataset")
    run_of(tmp_path).begin("02_coe")


def test_records_metrics_manifest_and_params(tmp_path):
    run = run_of(tmp_path)
    finish(run, "01_dataset", {"b": 1, "a": 0.5}, train="{}\n")
    assert run.metrics("01_dataset") == {"b": 1, "a": 0.5}
    manifest = json.loads((run.dir / "manifest.json").read_text())
    stage = manifest["stages"]["01_dataset"]
    assert list(stage["files"]) == ["train.jsonl"] and len(stage["files"]["train.jsonl"]) == 64
    assert stage["params"]["dataset"]["source"] == "bundled" and stage["seconds"] >= 0
    assert {"torch", "trl", "transformers"} <= set(manifest["versions"]) and "cores" in manifest["machine"]
    assert load_params(run.dir / "params.yaml") == run.params


def test_kept_when_nothing_changed_set_aside_when_something_did(tmp_path):
    folder = finish(run_of(tmp_path), "01_dataset", train="1\n")
    finish(run_of(tmp_path), "02_coe", coe="1\n")
    assert (run_of(tmp_path).begin("01_dataset") / "train.jsonl").exists()
    # another stage's parameter does not matter; the stage's own does, and nothing is lost
    assert (run_of(tmp_path, **{"grpo.max_steps": 9}).begin("01_dataset") / "metrics.json").exists()
    changed = run_of(tmp_path, **{"dataset.min_answer_chars": 90})
    assert list(p.name for p in changed.begin("01_dataset").iterdir()) == [".fingerprint"]
    assert (changed.dir / ".superseded" / "01_dataset" / "train.jsonl").read_text() == "1\n"
    (folder / "train.jsonl").write_text("2\n")
    changed.record("01_dataset", {"n": 1})
    # the content of an input changed, so what was made from it is set aside
    assert not (run_of(tmp_path).begin("02_coe") / "coe.jsonl").exists()


def test_a_second_process_waits_and_names_the_holder(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", TAKE, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    second = subprocess.Popen([sys.executable, "-c", TAKE, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    line = second.stdout.readline()
    assert "waiting" in line and f"process {first.pid} " in line
    first.kill()  # the lock goes with its holder, however it ends
    assert second.stdout.readline() == "held\n"
    second.communicate("go on\n", timeout=60)
    assert second.returncode == 0 and (tmp_path / "smoke" / "01_dataset" / "metrics.json").exists()
    first.wait()


def test_begin_again_in_one_process(tmp_path):
    run = run_of(tmp_path)
    assert run.begin("01_dataset") == run.begin("01_dataset") == run_of(tmp_path).begin("01_dataset")


def test_newest_whole_checkpoint(tmp_path):
    assert checkpoint(tmp_path) is None
    for step, state in ((2, "{}"), (10, "{}"), (12, '{"cut'), (14, None), (16, '{"global_step": 16, "max_steps": 16}')):
        folder = tmp_path / f"checkpoint-{step}"
        (folder / "ref").mkdir(parents=True)
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2"]
    assert not (tmp_path / "checkpoint-10" / "ref").exists()


def test_building_leaves_nothing_half_made(tmp_path):
    with pytest.raises(RuntimeError), building(tmp_path / "model") as target:
        (target / "weights").write_text("half")
        raise RuntimeError("killed")
    assert not (tmp_path / "model").exists()
    for text in ("one", "two"):
        with building(tmp_path / "model") as target:
            (target / "weights").write_text(text)
    assert (tmp_path / "model" / "weights").read_text() == "two" and os.listdir(tmp_path) == ["model"]
