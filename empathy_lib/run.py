"""A run's folder: what a stage reads, where it writes, and how it goes on after a crash.

::

    run = Run(load_params("params/demo.yaml"))
    folder = run.begin("03_sft")              # waits for the folder's lock; keeps checkpoints only if they still fit
    ...
    run.record("03_sft", {"format_valid": 0.5})   # metrics.json, written last: its presence means the stage is whole
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from empathy_lib import ROOT
from empathy_lib.params import STAGES, Params
from empathy_lib.schema import write_atomic, write_json

PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "datasets", "accelerate", "sentence-transformers")
_DATA = (".jsonl", ".safetensors", ".csv")


class StageMissing(RuntimeError):
    """A stage that this one builds on has not been run."""


class Run:
    """The folder ``outputs/<run>/`` of one set of parameters."""

    def __init__(self, params: Params):
        self.params = params
        self.dir = ROOT / params.outputs / params.run
        self._begun: dict[str, tuple[FileLock, float]] = {}

    def begin(self, stage: str) -> Path:
        """Lock the stage's folder and make it ready; returns the folder.

        A folder whose parameters and inputs are the same as now is kept, checkpoints included, and the stage goes
        on from there. Any other is moved to ``.superseded/`` (one generation is kept). While another process holds
        the lock this waits and names the holder.

        Raises:
            StageMissing: an earlier stage has no ``metrics.json``.
        """
        blocks, needs = STAGES[stage]
        for other in needs:
            if not (self.dir / other / "metrics.json").exists():
                raise StageMissing(f"{stage} needs the results of {other}, and {self.dir / other / 'metrics.json'} "
                                   f"is not there: run notebooks/{other[:2]}_*.ipynb with the same params first")
        self.dir.mkdir(parents=True, exist_ok=True)
        if stage not in self._begun:
            self._begun[stage] = (_lock(self.dir / f".{stage}.lock", stage), time.time())
        folder, fingerprint = self.dir / stage, self._fingerprint(stage)
        mark = folder / ".fingerprint"
        if folder.exists() and not (mark.exists() and mark.read_text() == fingerprint):
            old = self.dir / ".superseded" / stage
            shutil.rmtree(old, ignore_errors=True)
            old.parent.mkdir(exist_ok=True)
            shutil.move(folder, old)
            print(f"{stage}: parameters or inputs changed; the earlier result is now in {_short(old)}")
        folder.mkdir(exist_ok=True)
        write_atomic(mark, fingerprint)
        write_atomic(self.dir / "params.yaml", OmegaConf.to_yaml(OmegaConf.create(self.params.model_dump())))
        return folder

    def record(self, stage: str, metrics: dict[str, Any]) -> None:
        """Write the stage's entry in ``manifest.json``, then its ``metrics.json``; release the lock."""
        folder = self.dir / stage
        lock, began = self._begun.pop(stage)
        with _manifest(self.dir) as manifest:
            manifest["machine"], manifest["versions"], manifest["commit"] = _machine(), _versions(), _commit()
            manifest.setdefault("stages", {})[stage] = {
                "params": self.params.stage_blocks(stage), "files": _hashes(folder),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "seconds": round(time.time() - began, 1)}
        write_json(folder / "metrics.json", metrics)
        lock.release()
        print(f"{stage}: recorded in {_short(folder / 'metrics.json')}")

    def metrics(self, stage: str) -> dict[str, Any]:
        """The recorded metrics of a finished stage."""
        return json.loads((self.dir / stage / "metrics.json").read_text(encoding="utf-8"))

    def _fingerprint(self, stage: str) -> str:
        """What the stage's result depends on: its parameters and the content of the stages before it."""
        with _manifest(self.dir) as manifest:
            files = [manifest.get("stages", {}).get(other, {}).get("files") for other in STAGES[stage][1]]
        facts = [self.params.stage_blocks(stage), files]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint below ``folder`` to resume from, or None; half-written ones are removed.

    A checkpoint is whole when its ``trainer_state.json`` (which Transformers writes last) can be read. A ``ref/``
    adapter in it is removed: TRL keeps the frozen reference there, and Transformers would then load only the
    sub-folders and silently leave the policy untrained.
    """
    whole = []
    for path in folder.glob("checkpoint-*"):
        try:
            json.loads((path / "trainer_state.json").read_text())
            whole.append(path)
        except (OSError, ValueError):
            shutil.rmtree(path)
    if not whole:
        return None
    newest = max(whole, key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(newest / "ref", ignore_errors=True)
    return str(newest)


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


@contextmanager
def _manifest(folder: Path):
    """The run's manifest for reading and changing; stages that run side by side take turns."""
    path = folder / "manifest.json"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".manifest.lock"):
        before = path.read_text(encoding="utf-8") if path.exists() else "{}"
        manifest = json.loads(before)
        yield manifest
        if manifest != json.loads(before):
            write_json(path, manifest)


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of the stage's data and weights, checkpoints left out."""
    files = [f for f in sorted(folder.rglob("*")) if f.suffix in _DATA
             and not any(part.startswith((".", "checkpoint-")) for part in f.relative_to(folder).parts)]
    return {str(f.relative_to(folder)): _sha256(f) for f in files}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def _machine() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(), "gpus": gpus}


def _commit() -> str | None:
    try:
        return subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
