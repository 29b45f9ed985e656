"""The sweep of ablations: one run for each overlay in ``params/ablations/``, some with several seeds, named
``<run>-<overlay>[-s<seed>]``; the profile itself is the full run. Runs whose resolved parameters agree in a stage, and in all
stages that it builds on, share it: the first of them makes it, and in the others its folder is a link."""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from omegaconf import OmegaConf

from empathy_lib import ROOT
from empathy_lib.dataset import all_sources
from empathy_lib.params import CHAIN, STAGES, Params, ParamsError, load_params
from empathy_lib.run import manifest
from empathy_lib.schema import write_json
from empathy_lib.sources import SourceError, located

FULL, LAST = "full", "06_evaluation"  # no overlay; the last stage of a run in a sweep
MADE = CHAIN[:CHAIN.index(LAST) + 1]


class Row(NamedTuple):
    """One run of the sweep: its overlay, its seed, what is laid over the profile, and the parameters that result."""
    overlay: str
    seed: int
    overrides: dict[str, Any]
    params: Params


def all_overlays() -> dict[str, dict[str, Any]]:
    """The overlays by name, each as dotted keys, ``full`` (nothing) first and those that are run with several seeds next."""
    found = {path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in (ROOT / "params" / "ablations").glob("*.yaml")}
    first = found.pop("seeds")["runs"]
    flat = {name: {f"{block}.{key}" if key else block: value for block, values in (tree or {}).items()
                   for key, value in (values.items() if isinstance(values, dict) else [("", values)])}
            for name, tree in sorted(found.items())}
    return {FULL: {}} | {name: flat[name] for name in first if name in flat} | flat


def rows(profile: str | Path, overrides: Mapping[str, Any] | None = None, overlays: Collection[str] | None = None,
         seeds: int | None = None) -> dict[str, Row]:
    """The runs by name: the full one, and those of these ``overlays`` or of all; ``seeds``: of the runs with several, so many.
    What only the full run needs is left out of the others: there the last policy alone is scored, but where an overlay says
    otherwise. ParamsError for an overlay that is not there, or that makes the profile impossible."""
    known, several = all_overlays(), OmegaConf.load(ROOT / "params" / "ablations" / "seeds.yaml")
    if unknown := set(overlays or ()) - set(known):
        raise ParamsError(f"no such overlay: {', '.join(sorted(unknown))}; params/ablations/ has {', '.join(known)}")
    base, found = load_params(profile, overrides), {}
    for name, values in known.items():
        if name != FULL and overlays is not None and name not in overlays:
            continue
        for seed in range(base.seed, base.seed + ((seeds or several.n) if name in several.runs else 1)):
            run = base.run + (f"-{name}" if name != FULL else "") + (f"-s{seed}" if seed != base.seed else "")
            less = {"evaluation.systems": ["empathy_r1"]} if run != base.run else {}
            own = {**(overrides or {}), **less, **values, "run": run, "seed": seed}
            try:
                found[run] = Row(name, seed, own, load_params(profile, own))
            except ParamsError as error:
                raise ParamsError(f"overlay params/ablations/{name}.yaml: {error}") from None
    return found


def no_source(row: Row) -> str | None:
    """Why a run cannot begin: a source that is not there."""
    try:
        for name in all_sources(row.params.dataset):
            located(name)
    except SourceError as error:
        return str(error)
    return None


def owners(runs: Mapping[str, Params]) -> dict[tuple[str, str], str]:
    """Which run makes the stage: by (run, stage), the first run with the same parameters there and in all that it builds on."""
    first: dict[str, str] = {}
    made = {}
    for name, params in runs.items():
        keys: dict[str, str] = {}
        for stage in MADE:
            facts = [stage, params.outputs, params.stage_blocks(stage), [keys[other] for other in STAGES[stage][1]]]
            keys[stage] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
            made[name, stage] = first.setdefault(keys[stage], name)
    return made


def link(outputs: str, run: str, stages: Mapping[str, str], move: bool = True) -> None:
    """In ``run``, let each of these stages be that of its owner (``{stage: owner}``): a link in place of the folder, and the
    owner's entry in the manifest; ``review``, people's decisions, likewise. What its owner has not finished is passed over;
    an earlier folder of the run's own goes to ``.superseded/``, or stays where it is (not ``move``)."""
    folder = ROOT / outputs / run
    for stage, owner in stages.items():
        place, target = folder / stage, Path("..") / owner / stage
        own = place.exists() and not place.is_symlink()
        if not (folder.parent / owner / stage / ("metrics.json" if stage in STAGES else "decisions.jsonl")).exists() or own and not move:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if own:
            aside = folder / ".superseded" / stage
            with FileLock(folder / f".{stage}.lock", timeout=60):
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                place.rename(aside)
        new = folder / f".{stage}.link"
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        os.replace(new, place)
        if stage not in STAGES:
            continue
        theirs = manifest(folder.parent / owner)["stages"][stage]
        with FileLock(folder / ".manifest.lock"):
            told = manifest(folder)
            told.setdefault("stages", {})[stage] = theirs | {"linked": owner}
            write_json(folder / "manifest.json", told)


def link_all(runs: Mapping[str, Row]) -> None:
    """All links of a sweep, as far as their owners have come and no folder of a run's own is there."""
    made = owners({name: row.params for name, row in runs.items()})
    for name, row in runs.items():
        link(row.params.outputs, name, {stage: made[name, stage] for stage in MADE if made[name, stage] != name}, move=False)


def missing(row: Row, made: Mapping[tuple[str, str], str]) -> str | None:
    """Why a run has no figures yet, in words: where it, or the run that it builds on, stopped, or that it was made with other
    parameters; None where it is whole."""
    if why := no_source(row):
        return why
    for stage in MADE:
        owner = made[row.params.run, stage]
        folder = ROOT / row.params.outputs / owner
        where = stage if owner == row.params.run else f"{stage} of {owner}"
        if not (folder / stage / "metrics.json").exists():
            notebook = next(iter(sorted((folder / "notebooks").glob(f"{stage[:2]}_*.ipynb"))), None)
            return f"{where}: {_error(notebook) if notebook else 'not begun'}"
        if manifest(folder)["stages"][stage]["params"] != json.loads(json.dumps(row.params.stage_blocks(stage))):
            return f"{where}: made with other parameters"
        if not (ROOT / row.params.outputs / row.params.run / stage / "metrics.json").exists():
            return f"{stage}: not linked to that of {owner}"
    return None


def _error(notebook: Path) -> str:
    """What stopped an executed notebook."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except ValueError:  # papermill is writing it
        return "not finished"
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    errors = [f"{out['ename']}: {out['evalue']}" for out in outputs if out["output_type"] == "error"]
    return errors[-1].splitlines()[0][:200] if errors else "not finished"
