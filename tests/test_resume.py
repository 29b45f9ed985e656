"""A run that was killed ends with the same metrics.json as one that was not: LoRA and full fine-tuning, SFT, reward model
and GRPO, at five moments: before there is a checkpoint, after the first, second and third, and while one is being
written; the kernel, or Snakemake alone."""

import json
import subprocess

import pytest

from conftest import BIN, NOTEBOOKS, SMOKE, all_metrics, copy_run, environment, holder, kill, run_notebook, start_notebook, wait_for
from empathy_lib import ROOT
from empathy_lib.schema import read_jsonl

LORA = {"policy.lora_rank": 8, "sft.learning_rate": 0.02, "grpo.learning_rate": 0.02}
SAVED = {"03_sft": (20, 40, 60), "04_reward_model": (5, 10, None), "05_grpo": (2, 4, 6)}  # steps of the first checkpoints; None: whatever its last is
MOMENTS = ("before", "after-1", "after-2", "after-3", "writing")
# Executed at the kernel's start: the process dies when it opens a certain file to write it.
DIE_AT_OPENING = """
import builtins, os, re, signal
_open = builtins.open
def _deadly(file, *args, **kwargs):
    if re.search({pattern!r}, str(file)) and "w" in str(args):
        os.kill(os.getpid(), signal.SIGKILL)
    return _open(file, *args, **kwargs)
builtins.open = _deadly
"""


def deadly_file(stage, moment):
    """The file whose opening is the moment; None where the process is killed from outside."""
    first, second, _ = SAVED[stage]
    if moment == "writing":  # Transformers writes it last: weights and optimizer are there, the state is not
        return f"/{stage}/checkpoint-{second}/trainer_state.json$"
    if moment == "before":
        return f"/{stage}/checkpoint-{first}/"
    if stage == "04_reward_model":  # too quick to be watched from outside: at the start of what comes next
        return {"after-1": f"/{stage}/checkpoint-{second}/", "after-2": rf"/{stage}/checkpoint-(?!{first}/|{second}/)\d+/",
                "after-3": rf"/{stage}/\.log\.jsonl"}[moment]


def whole(folder):
    try:
        return bool(json.loads((folder / "trainer_state.json").read_text()))
    except (OSError, ValueError):
        return False


def killed_then_resumed(stage, run, tmp_path, overrides, moment):
    overrides, folder, env = {"outputs": str(run.parent)} | overrides, run / stage, {}
    first, second, _ = SAVED[stage]
    if pattern := deadly_file(stage, moment):
        startup = tmp_path / "ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "die.py").write_text(DIE_AT_OPENING.format(pattern=pattern))
        env = {"IPYTHONDIR": str(tmp_path / "ipython")}
    process = start_notebook(stage, tmp_path / "executed", overrides, **env)
    if not pattern:
        step = SAVED[stage][int(moment[-1]) - 1]
        wait_for(lambda: whole(folder / f"checkpoint-{step}"), "the checkpoint", process=process)
        kill(holder(run, stage))
    process.communicate(timeout=300)
    assert process.returncode != 0 and not (folder / "metrics.json").exists()
    assert not (folder / "model").exists() or moment == "after-3"  # GRPO's third is its last
    if moment == "writing":
        partial = folder / f"checkpoint-{second}"
        assert partial.exists() and not whole(partial) and list(partial.glob("*.safetensors"))
    assert any(map(whole, folder.glob("checkpoint-*"))) == (moment != "before")
    run_notebook(stage, tmp_path / "executed", overrides)
    return (folder / "metrics.json").read_bytes()


@pytest.fixture(scope="session")
def lora_run(smoke_run, tmp_path_factory):
    """Undisturbed SFT with LoRA, and GRPO with LoRA on the fully fine-tuned SFT model (whose tags it can write)."""
    runs = {}
    for stage, without in (("03_sft", ["03_sft", "05_grpo"]), ("05_grpo", ["05_grpo"])):
        runs[stage] = copy_run(smoke_run, tmp_path_factory.mktemp("lora") / "smoke", *without, "06_evaluation")
        run_notebook(stage, runs[stage].parent / "executed", {"outputs": str(runs[stage].parent)} | LORA)
    log = [row for row in read_jsonl(runs["05_grpo"] / "05_grpo/log.jsonl") if "reward" in row]
    assert abs(log[0]["kl"]) < 1e-6 and log[-1]["kl"] > 0.01  # the adapter moved: losing it would show
    return runs


CASES = [(stage, tuning, moment) for stage in SAVED for tuning in ("full", "lora") for moment in MOMENTS
         if (stage, tuning) != ("04_reward_model", "lora")]  # the encoder has no adapters
QUICK = {("03_sft", "full", "after-1"), ("05_grpo", "full", "writing")}


@pytest.mark.parametrize("stage, tuning, moment", [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES], ids=["-".join(case) for case in CASES])
def test_killed_kernel(stage, tuning, moment, request, tmp_path):
    reference = request.getfixturevalue("smoke_run") if tuning == "full" else request.getfixturevalue("lora_run")[stage]
    later = [other for other in NOTEBOOKS if other >= stage]
    run = copy_run(reference, tmp_path / "outputs" / "smoke", *later)
    result = killed_then_resumed(stage, run, tmp_path, {} if tuning == "full" else LORA, moment)
    assert result == (reference / stage / "metrics.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["03_sft", "05_grpo"])
def test_killed_snakemake(stage, smoke_run, tmp_path):
    """Snakemake dies alone, its kernel trains on; the same command again waits for it and finishes the run."""
    run = copy_run(smoke_run, tmp_path / "outputs" / "smoke", "06_evaluation", "05_grpo", *(["03_sft"] if stage == "03_sft" else []))
    arguments = [BIN / "snakemake", "--cores", "1", "--rerun-incomplete", "--config", f"params={SMOKE}",
                 "overrides=" + json.dumps({"outputs": str(run.parent)})]
    first = subprocess.Popen(arguments, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: whole(run / stage / f"checkpoint-{SAVED[stage][0]}"), "first checkpoint", process=first)
    orphan = holder(run, stage)
    first.kill()
    first.wait()
    assert subprocess.run(["ps", "-p", str(orphan)], capture_output=True).returncode == 0, "the kernel should live on"
    make = subprocess.run(["make", "demo", "CORES=1", f"PARAMS={SMOKE}", f"OVERRIDES={json.dumps({'outputs': str(run.parent)})}"],
                          cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert make.returncode == 0, make.stdout[-3000:] + make.stderr[-3000:]
    assert all_metrics(run) == all_metrics(smoke_run)
