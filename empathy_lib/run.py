"""A run's folder: what a stage reads, where it writes, and how it goes on after a crash. A stage locks its folder from
``begin`` to ``record``; its ``metrics.json`` is written last: its presence means the stage is whole."""

import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from empathy_lib import BUNDLED, ROOT, prompts
from empathy_lib.params import STAGES, Params
from empathy_lib.schema import write_atomic, write_json

PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate", "sentence-transformers")

_SCREEN, _GUARD = ("crisis.npz", "crisis_rules.yaml"), ("replies.npz", "reply_rules.yaml")
SHIPPED = {"01_dataset": _SCREEN, "04_reward_model": ("negatives.jsonl", "probes.yaml"), "07_ranking": _GUARD,  # bundled files that a stage reads
           "06_evaluation": (*_SCREEN, *_GUARD, "tempting.jsonl", "held_out/crisis_zh.jsonl", "held_out/crisis_en.jsonl")}


class StageMissing(RuntimeError):
    """A stage that this one builds on has not been run."""


class Run:
    """The folder ``outputs/<run>/`` of one set of parameters."""

    def __init__(self, params: Params):
        self.params, self.name = params, f"{params.outputs}/{params.run}"
        self.dir = ROOT / self.name
        self._begun: dict[str, tuple[FileLock, float]] = {}

    def begin(self, stage: str) -> Path:
        """Lock the stage's folder and make it ready: kept, checkpoints included, where parameters and inputs are the
        same, else moved to ``.superseded/``. StageMissing where an earlier stage has no ``metrics.json``."""
        for other in STAGES[stage][1]:
            if not (self.dir / other / "metrics.json").exists():
                raise StageMissing(f"{stage} needs the results of {other}, and {self.dir / other / 'metrics.json'} "
                                   f"is not there: run notebooks/{other[:2]}_*.ipynb with the same params first")
        self.dir.mkdir(parents=True, exist_ok=True)
        folder, fingerprint = self.dir / stage, self._fingerprint(stage)
        mark = folder / ".fingerprint"
        if folder.is_symlink() and not (mark.exists() and mark.read_text() == fingerprint):
            folder.unlink()  # another run's (``sweep``), and no longer the same
        if stage not in self._begun:  # of a linked folder, the lock is its owner's
            self._begun[stage] = (_lock(folder.resolve().with_name(f".{stage}.lock"), stage), time.time())
        if folder.exists() and any(folder.iterdir()) and not (mark.exists() and mark.read_text() == fingerprint):
            old = self.dir / ".superseded" / stage
            shutil.rmtree(old, ignore_errors=True)
            old.parent.mkdir(exist_ok=True)
            shutil.move(folder, old)
            print(f"{stage}: parameters or inputs changed; the earlier result is in {self.name}/.superseded/{stage}")
        write_atomic(mark, fingerprint)
        write_atomic(self.dir / "params.yaml", OmegaConf.to_yaml(OmegaConf.create(self.params.model_dump())))
        return folder

    def record(self, stage: str, metrics: dict[str, Any], warnings: Sequence[str] = ()) -> None:
        """Write the stage's entry in ``manifest.json``, with what a reader of its result must know (``warnings``), then its
        ``metrics.json``; release the lock."""
        if stage not in self._begun:
            raise RuntimeError(f"{stage} is recorded already: run the notebook again from its top")
        folder = self.dir / stage
        lock, began = self._begun.pop(stage)
        entry = {"params": self.params.stage_blocks(stage), "files": _hashes(folder),
                 "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "seconds": round(time.time() - began, 1), "peak_mb": _peak(),
                 "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
                 "warnings": list(warnings)}
        if folder.is_symlink():
            entry["linked"] = folder.resolve().parent.name
        with FileLock(self.dir / ".manifest.lock"):  # stages that run side by side take turns
            told = manifest(self.dir) | environment()
            told.setdefault("stages", {})[stage] = entry
            write_json(self.dir / "manifest.json", told)
        write_json(folder / "metrics.json", metrics)
        lock.release()
        print(f"{stage}: recorded in {self.name}/{stage}/metrics.json")

    def metrics(self, stage: str) -> dict[str, Any]:
        """The recorded metrics of a finished stage."""
        return json.loads((self.dir / stage / "metrics.json").read_text(encoding="utf-8"))

    def warnings(self) -> list[str]:
        """What the finished stages want a reader to know."""
        return [text for entry in manifest(self.dir).get("stages", {}).values() for text in entry.get("warnings", ())]

    def _fingerprint(self, stage: str) -> str:
        """What the stage's result depends on: its parameters, the content of the stages before it, and the texts we ship for it."""
        recorded = manifest(self.dir).get("stages", {})
        files = [recorded.get(other, {}).get("files") for other in STAGES[stage][1]]
        p, told = self.params, ""
        if stage == "02_coe":
            told = prompts.version(p.language, p.coe.layers)
        elif "coe.layers" in STAGES[stage][0]:
            told = prompts.policy(p.language, p.coe.layers)
        read = {name: BUNDLED / name for name in SHIPPED.get(stage, ())} | (other_systems(p) if stage == "06_evaluation" else {})
        files.append({name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in read.items()})
        facts = json.dumps([p.stage_blocks(stage), files, told], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run's folder; empty before its first stage is recorded."""
    path = folder / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def other_systems(params: Params) -> dict[str, Path]:
    """The completions of ``evaluation.others`` that are there: what those runs' last policy said to the test questions. A
    run that is itself without a part takes none: or two such runs would each wait for the other's."""
    files = {name: ROOT / params.outputs / run / "06_evaluation" / "generations" / "empathy_r1.jsonl"
             for name, run in params.evaluation.others.items() if params.whole}
    return {name: file for name, file in files.items() if (file.parents[1] / "metrics.json").exists()}


def checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint below ``folder`` to resume from, or None; half-written and finished ones are removed."""
    newest = None
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])):
        try:  # Transformers writes this file last; resumed at its very end, a run would train one step too many
            state = json.loads((path / "trainer_state.json").read_text())
            usable = state.get("global_step", 0) < state.get("max_steps", float("inf"))
        except (OSError, ValueError):
            usable = False
        newest = path if usable else shutil.rmtree(path) or newest
    if newest:  # TRL's frozen reference: beside it Transformers loads only sub-folders, not the trained policy
        shutil.rmtree(newest / "ref", ignore_errors=True)
    return str(newest) if newest else None


@contextmanager
def building(folder: Path):
    """Yields a temporary folder that becomes ``folder`` when the block ends without an error."""
    temporary = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def _lock(path: Path, stage: str) -> FileLock:
    lock, holder, patience = FileLock(path, is_singleton=True), path.with_suffix(".holder"), 0
    while not lock.is_locked:  # a lock this process holds already is kept
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            who = holder.read_text() if holder.exists() else "another process"
            print(f"{stage}: waiting, its folder is in use by {who}; interrupt to give up", flush=True)
            patience = 60
    write_atomic(holder, f"process {os.getpid()} on {platform.node()} since {time.strftime('%H:%M:%S')}")
    return lock


def _peak() -> dict[str, int]:
    """The most memory that this process has held, and torch on a GPU, in MB."""
    peak = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        peak["gpu"] = torch.cuda.max_memory_allocated() // 2**20
    return peak


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the stage's data and weights, checkpoints left out."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        left_out = any(part.startswith((".", "checkpoint-")) for part in name.parts)
        if path.suffix in (".jsonl", ".safetensors", ".csv") and not left_out:
            with open(path, "rb") as file:
                hashes[str(name)] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def environment() -> dict[str, Any]:
    """Machine, versions of what a result depends on, and the commit (None outside a git checkout)."""
    import torch
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    versions = {d.name: d.version for d in importlib.metadata.distributions() if d.name in PACKAGES}
    describe = ["git", "-C", ROOT, "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip() if shutil.which("git") else ""
    machine = {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(), "gpus": gpus}
    return {"machine": machine, "versions": {"python": platform.python_version()} | versions, "commit": commit or None}
