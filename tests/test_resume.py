"""A run that was killed ends with the same metrics.json as one that was not: LoRA and full fine-tuning, SFT and GRPO,
killed after a checkpoint and while one is being written, the kernel or Snakemake alone."""

import json
import subprocess

import pytest

from conftest import BIN, SMOKE, all_metrics, copy_run, environment, holder, kill, run_notebook, snakemake, start_notebook, wait_for
from empathy_lib import ROOT

LORA = {"policy.lora_rank": 8, "sft.learning_rate": 0.02, "grpo.learning_rate": 0.02}
# The second checkpoint's step, by stage: the run must go on from the first.
SECOND = {"03_sft": 40, "05_grpo": 4}
# Executed at the kernel's start: the process dies when Transformers opens the last file of the checkpoint, so that
# weights and optimizer of that checkpoint are there and its state is not.
DIE_WHILE_WRITING = """
import builtins, os, signal
_open = builtins.open
def _deadly(file, *args, **kwargs):
    if str(file).endswith("checkpoint-{step}/trainer_state.json") and "/{stage}/" in str(file) and "w" in str(args):
        os.kill(os.getpid(), signal.SIGKILL)
    return _open(file, *args, **kwargs)
builtins.open = _deadly
"""


def whole(folder):
    try:
        return bool(json.loads((folder / "trainer_state.json").read_text()))
    except (OSError, ValueError):
        return False


def killed_then_resumed(stage, run, tmp_path, overrides, moment):
    overrides = {"outputs": str(run.parent)} | overrides
    folder, env = run / stage, {}
    if moment == "writing":
        startup = tmp_path / "ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "die.py").write_text(DIE_WHILE_WRITING.format(step=SECOND[stage], stage=stage))
        env = {"IPYTHONDIR": str(tmp_path / "ipython")}
    process = start_notebook(stage, tmp_path / "executed", overrides, **env)
    if moment == "after":
        first = folder / f"checkpoint-{SECOND[stage] // 2}"
        wait_for(lambda: whole(first), "first checkpoint", process=process)
        kill(holder(run, stage))
    process.communicate(timeout=300)
    assert process.returncode != 0 and not (folder / "metrics.json").exists() and not (folder / "model").exists()
    if moment == "writing":
        partial = folder / f"checkpoint-{SECOND[stage]}"
        assert partial.exists() and not whole(partial) and list(partial.glob("*.safetensors"))
    run_notebook(stage, tmp_path / "executed", overrides)
    return (folder / "metrics.json").read_bytes()


@pytest.fixture(scope="session")
def lora_run(smoke_run, tmp_path_factory):
    """Undisturbed SFT with LoRA, and GRPO with LoRA on the fully fine-tuned SFT model (whose tags it can write)."""
    runs = {}
    for stage, without in (("03_sft", ["03_sft", "05_grpo"]), ("05_grpo", ["05_grpo"])):
        runs[stage] = copy_run(smoke_run, tmp_path_factory.mktemp("lora") / "smoke", *without, "06_evaluation")
        run_notebook(stage, runs[stage].parent / "executed", {"outputs": str(runs[stage].parent)} | LORA)
    log = [json.loads(line) for line in (runs["05_grpo"] / "05_grpo/log.jsonl").read_text().splitlines()]
    assert abs(log[0]["kl"]) < 1e-6 and log[-1]["kl"] > 0.01  # the adapter moved: losing it would show
    return runs


CASES = [(stage, tuning, moment) for stage in SECOND for tuning in ("full", "lora") for moment in ("after", "writing")]
QUICK = {("03_sft", "full", "after"), ("05_grpo", "full", "writing")}


@pytest.mark.parametrize("stage, tuning, moment", [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES], ids=["-".join(case) for case in CASES])
def test_killed_kernel(stage, tuning, moment, request, tmp_path):
    reference = request.getfixturevalue("smoke_run") if tuning == "full" else request.getfixturevalue("lora_run")[stage]
    later = ["06_evaluation", "05_grpo"] + (["03_sft"] if stage == "03_sft" else [])
    run = copy_run(reference, tmp_path / "outputs" / "smoke", *later)
    result = killed_then_resumed(stage, run, tmp_path, {} if tuning == "full" else LORA, moment)
    assert result == (reference / stage / "metrics.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["03_sft", "05_grpo"])
def test_killed_snakemake(stage, smoke_run, tmp_path):
    """Snakemake dies alone, its kernel trains on; the same command again waits for it and finishes the run."""
    run = copy_run(smoke_run, tmp_path / "outputs" / "smoke", "06_evaluation", "05_grpo", *(["03_sft"] if stage == "03_sft" else []))
    arguments = [BIN / "snakemake", "--cores", "all", "--rerun-incomplete", "--config", f"params={SMOKE}",
                 "overrides=" + json.dumps({"outputs": str(run.parent)})]
    first = subprocess.Popen(arguments, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: whole(run / stage / f"checkpoint-{SECOND[stage] // 2}"), "first checkpoint", process=first)
    orphan = holder(run, stage)
    first.kill()
    first.wait()
    assert subprocess.run(["ps", "-p", str(orphan)], capture_output=True).returncode == 0, "the kernel should live on"
    make = subprocess.run(["make", "demo", f"PARAMS={SMOKE}", f"OVERRIDES={json.dumps({'outputs': str(run.parent)})}"],
                          cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert make.returncode == 0, make.stdout[-3000:] + make.stderr[-3000:]
    assert all_metrics(run) == all_metrics(smoke_run)
