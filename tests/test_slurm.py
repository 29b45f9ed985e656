"""The sweep by profiles/slurm and the real snakemake-executor-plugin-slurm. Only Slurm's own commands are stand-ins: sbatch
runs its job on this machine in the background, and refuses one that asks for a GPU."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import BIN, SMOKE, all_metrics, environment
from empathy_lib import ROOT

PROFILE = ("--profile", "profiles/slurm")
SLURM = '''#!{python}
import json, os, subprocess, sys, time
from pathlib import Path

folder, name, arguments = Path(__file__).with_name("jobs"), Path(sys.argv[0]).name, sys.argv[1:]
if name == "sbatch":
    job, wrapped = str(os.getpid()), next(a for a in arguments if a.startswith("--wrap=")).removeprefix("--wrap=")
    (folder / (job + ".json")).write_text(json.dumps(arguments))
    if any(a.startswith(("--gpus", "--gres")) for a in arguments):
        sys.exit("sbatch: error: no GPU here")
    state = folder / (job + ".state")
    state.write_text("RUNNING")
    run = 'timeout 120 sh -c "$0" && echo COMPLETED > $1.new || echo FAILED > $1.new; mv $1.new $1'
    subprocess.Popen(["sh", "-c", run, wrapped, state], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                     stdout=open(arguments[arguments.index("--output") + 1].replace("%j", job), "w"))
    print(job)
elif name == "srun":
    command = next(i for i, argument in enumerate(arguments) if not argument.startswith("-"))
    os.execvp(arguments[command], arguments[command:])
elif name == "sacct" and "-X" in arguments:
    told, end = folder / "told", time.monotonic() + 40
    while True:  # the plugin waits ever longer between two questions, so the answer waits until it is a new one
        states = "".join(sorted(file.stem + "|" + file.read_text().strip() + "\\n" for file in folder.glob("*.state")))
        if not told.exists() or states != told.read_text() or time.monotonic() > end:
            break
        time.sleep(0.1)
    told.write_text(states)
    print(states)
'''


def sweep(overrides, *arguments, params=SMOKE, **env):
    """The sweep of the full run alone, with the seeds 42 and 43."""
    return subprocess.run([BIN / "snakemake", "ablations", *arguments, "--config", f"params={params}", "overlays=full", "seeds=2",
                           f"overrides={json.dumps(overrides)}"],
                          cwd=ROOT, env=environment(**env), capture_output=True, text=True, timeout=300)


def slurm(folder: Path) -> Path:
    """A folder with the stand-ins; in its ``jobs/`` is what sbatch was asked."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "slurm").write_text(SLURM.format(python=sys.executable))
    (folder / "slurm").chmod(0o755)
    for name in ("sbatch", "srun", "sacct", "squeue", "scancel", "scontrol", "sinfo", "sacctmgr", "sshare"):
        (folder / name).symlink_to("slurm")
    return folder


def test_the_same_jobs_and_a_gpu_for_those_that_need_one(tmp_path):
    overrides = {"outputs": str(tmp_path), "coe.teacher": "local", "coe.model": "m"}  # such a teacher needs one too
    planned = []
    for how in (("--cores", "all"), PROFILE):
        out = sweep(overrides, "all", *how, "--dry-run", "--quiet", "progress")
        assert out.returncode == 0, out.stderr[-2000:]
        planned.append(dict(re.findall(r"^(?:local)?rule ([\w.-]+):\n((?: {4}.*\n)+)", out.stdout + out.stderr, re.M)))
    assert set(planned[0]) == set(planned[1]) and len(planned[0]) == 16
    needing = {name for name, said in planned[1].items() if re.search(r"\bgpu=1\b", said)}
    assert needing == set(planned[1]) - {"01_dataset", "01_dataset_smoke-s43", "07_ranking", "report", "ablations", "all"}
    out = sweep({"outputs": str(tmp_path)}, *PROFILE, "--dry-run", params="params/paper.yaml")
    asked = dict(re.findall(r"^rule ([\w.-]+):\n((?: {4}.*\n)+)", out.stdout + out.stderr, re.M))
    cores = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())["cores"]
    assert all(f"threads: {cores}\n" in asked[name] for name in ("05_grpo", "05_grpo_paper-s43"))


@pytest.mark.slow
def test_jobs_run_and_one_that_fails_stops_no_other(tmp_path):
    for stage in ("01_dataset", "02_coe"):  # of the full run, so that its 03 is refused at once
        (tmp_path / "smoke" / stage).mkdir(parents=True)
        (tmp_path / "smoke" / stage / "metrics.json").write_text("{}")
    commands = slurm(tmp_path / "bin")
    overrides = {"outputs": str(tmp_path), "coe.layers": ["L1", "L3"], "judge": None}  # lists and null reach the jobs too
    out = sweep(overrides, *PROFILE, "--slurm-init-seconds-before-status-checks", "1", "--slurm-logdir", str(tmp_path / "logs"),
                PATH=f"{commands}:{environment()['PATH']}")
    logs = "\n".join(file.read_text()[-2000:] for file in (tmp_path / "logs").rglob("*.log"))
    calls = sorted((commands / "jobs").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    calls = [json.loads(file.read_text()) for file in calls]
    asked = {call[call.index("--comment") + 1].removeprefix("rule_"): call for call in calls}

    assert set(all_metrics(tmp_path / "smoke-s43")) == {"01_dataset", "02_coe"}, out.stderr[-3000:] + logs
    ran = yaml.safe_load((tmp_path / "smoke-s43/params.yaml").read_text())
    assert (ran["seed"], ran["coe"]["layers"], ran["judge"]) == (43, ["L1", "L3"], None)
    assert list(asked).index("03_sft") < list(asked).index("02_coe_smoke-s43")  # which began after the failure
    assert out.returncode != 0 and out.stderr.count("no GPU here") == 2
    assert set(re.findall(r"Error in rule ([\w.-]+):", out.stderr)) == {"03_sft", "03_sft_smoke-s43"}

    assert set(asked) == {"03_sft", "01_dataset_smoke-s43", "02_coe_smoke-s43", "03_sft_smoke-s43"}
    assert {name for name, call in asked.items() if "--gpus=1" in call} == {"03_sft", "03_sft_smoke-s43"}
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    wanted = {"--cpus-per-task=1", *map(str, profile["default-resources"].values())}
    assert all(wanted <= set(call)  # of a demo model, each takes one core
               for call in asked.values())
