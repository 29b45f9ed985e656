"""Shared helpers: runs of the smoke profile in a temporary folder, through the real notebooks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from empathy_lib import ROOT
from empathy_lib.coe import CoE

SMOKE = "params/smoke.yaml"
BIN = Path(sys.executable).parent
NOTEBOOKS = {"01_dataset": "01_build_dataset", "02_coe": "02_generate_coe", "03_sft": "03_sft",
             "04_reward_model": "04_reward_model", "05_grpo": "05_grpo", "06_evaluation": "06_evaluate", "07_ranking": "07_rank_blind"}


@pytest.fixture
def chain() -> CoE:
    return CoE("刚下夜班就被叫去开会，她又累又委屈。", "“是我不够好”，像是把一次批评当成了全部。", "想有人懂这份累。",
               "先接住委屈，再一起看那句话。", "连轴转了十二个小时还要挨那句话，换谁都会委屈。")


def environment(**extra: str) -> dict[str, str]:
    """One thread: two runs can go side by side, and sums round alike on every machine."""
    return os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"} | extra


def start_notebook(stage: str, out: Path, overrides: dict, cwd: Path = ROOT, **env: str) -> subprocess.Popen:
    """Papermill on one notebook, as a user calls it."""
    out.mkdir(parents=True, exist_ok=True)
    name = NOTEBOOKS.get(stage, stage)
    return subprocess.Popen(
        [BIN / "papermill", ROOT / "notebooks" / f"{name}.ipynb", out / f"{name}.ipynb", "-p", "params", SMOKE,
         "-y", json.dumps({"overrides": overrides}), "--no-progress-bar"],
        cwd=cwd, env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_notebook(stage: str, out: Path, overrides: dict, cwd: Path = ROOT, **env: str) -> None:
    process = start_notebook(stage, out, overrides, cwd, **env)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-4000:]


def snakemake(overrides: dict, *arguments: str, params: str = SMOKE, more: tuple[str, ...] = (), cores: str = "1") -> subprocess.CompletedProcess:
    return subprocess.run(
        [BIN / "snakemake", "--cores", cores, *arguments, "--config", f"params={params}",
         f"overrides={json.dumps(overrides)}", *more], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=1800)


def all_metrics(run: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(run.glob("*/metrics.json"))}


def wait_for(condition, what: str, seconds: float = 300, process: subprocess.Popen | None = None) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        assert process is None or process.poll() is None, f"{what}: the process ended before\n{process.stdout.read()[-3000:]}"
        time.sleep(0.02)


def holder(run: Path, stage: str) -> int:
    """The process that holds the stage's lock: the notebook's kernel."""
    return int((run / f".{stage}.holder").read_text().split()[1])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def copy_run(source: Path, target: Path, *without: str) -> Path:
    """A copy of a run without some stages; its manifest and fingerprints still hold."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.lock", "*.holder"))
    for stage in without:
        shutil.rmtree(target / stage, ignore_errors=True)
    return target


@pytest.fixture(scope="session")
def two_smoke_runs(tmp_path_factory) -> tuple[Path, Path]:
    """The whole chain on params/smoke.yaml (full fine-tuning), twice, side by side: by Snakemake, and by papermill alone."""
    first, second = tmp_path_factory.mktemp("outputs"), tmp_path_factory.mktemp("again")
    with ThreadPoolExecutor() as pool:
        again = pool.submit(lambda: [run_notebook(stage, second / "executed", {"outputs": str(second)}) for stage in NOTEBOOKS])
        result = snakemake({"outputs": str(first)})
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        again.result()
    return first / "smoke", second / "smoke"


@pytest.fixture(scope="session")
def smoke_run(two_smoke_runs) -> Path:
    """The one by Snakemake."""
    return two_smoke_runs[0]


@pytest.fixture(scope="session")
def demo_sft(tmp_path_factory) -> Path:
    """The demo model after SFT (about four minutes), or the folder in KIT_DEMO_MODEL."""
    if folder := os.environ.get("KIT_DEMO_MODEL"):
        return Path(folder)
    outputs = tmp_path_factory.mktemp("demo")
    result = snakemake({"outputs": str(outputs)}, "--until", "03_sft", params="params/demo.yaml", cores="all")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return outputs / "demo" / "03_sft" / "model"
