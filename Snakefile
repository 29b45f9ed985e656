"""The notebooks as a graph over outputs/<run>/: `snakemake --cores all --config params=params/paper.yaml`; and the sweep of
notebook 08 over outputs/<run>-<overlay>/: `snakemake --cores all ablations --config params=params/ablation.yaml`, where stages
that agree are made once (sweep.py).

Only each stage's metrics.json is a declared output, because Snakemake deletes the outputs of a killed job and the
checkpoints beside it must live. A rule carries its stage's resolved parameters, so an edit under `grpo` reruns from 05 on.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from empathy_lib import BUNDLED, ROOT, sweep
from empathy_lib.dataset import all_sources
from empathy_lib.params import CHAIN, STAGES, ParamsError, load_params
from empathy_lib.run import SHIPPED, other_systems
from empathy_lib.sources import SourceError, located

PARAMS = config.get("params", "params/demo.yaml")


def typed(value):  # --config hands every value on as text
    return {key: typed(inner) for key, inner in value.items()} if isinstance(value, dict) else \
        [typed(inner) for inner in value] if isinstance(value, list) else yaml.safe_load(str(value))


OVERRIDES = typed(config.get("overrides", {}))
FULL = load_params(PARAMS, OVERRIDES)
RUN = f"{FULL.outputs}/{FULL.run}"
SWEEP = "ablations" in sys.argv
CHOSEN = {"overlays": config["overlays"].split(",") if "overlays" in config else None,
          "seeds": int(config["seeds"]) if "seeds" in config else None}
try:
    ROWS = sweep.rows(PARAMS, OVERRIDES, **CHOSEN)
except ParamsError:
    if SWEEP:
        raise
    ROWS = sweep.rows(PARAMS, OVERRIDES, [], 1)  # a broken overlay stops no other run
ROWS = {run: row for run, row in ROWS.items() if run == FULL.run or not sweep.no_source(row)}  # notebook 08 says which is missing
OWNERS = sweep.owners({run: row.params for run, row in ROWS.items()})
NOTEBOOKS = {path.stem[:2]: path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}


class Commands(dict):
    """What each rule runs, looked up when its job runs, as the format of "{COMMANDS:{rule}.}" (the point, because Snakemake
    reads a q at a format's end). As a parameter of the rule, or in its text, other overrides would make every stage again."""
    def __format__(self, rule):
        return self[rule.removesuffix(".")]


COMMANDS = Commands()


def data(stage, p):
    """The files that a stage reads beside the stages before it. A source that is not there: the notebook says so."""
    shipped = [str(BUNDLED / name) for name in SHIPPED.get(stage, ())]
    policy, ratings = BUNDLED / "prompts" / f"policy_{p.language}.yaml", ROOT / p.outputs / p.run / "ratings" / "ratings.jsonl"
    if stage == "01_dataset":
        return shipped + [str(path) for path in map(file_of, all_sources(p.dataset)) if path]
    there = {"02_coe": [BUNDLED / "coe.jsonl", BUNDLED / "questions.jsonl", BUNDLED / "prompts" / f"teacher_{p.language}.yaml",
                        ROOT / p.outputs / FULL.run / "review" / "decisions.jsonl"],
             "06_evaluation": [policy, *other_systems(p).values(), ratings], "07_ranking": [ratings]}
    return shipped + [str(path) for path in there.get(stage, [policy]) if path.exists()]


GPU = ("03_sft", "04_reward_model", "05_grpo", "06_evaluation")  # stages that need one
# On a cluster or a GPU a job has the machine, or its share, for itself. Runs of a demo model go side by side, a core each.
SIDE_BY_SIDE = SWEEP and FULL.policy.model == "demo"


def gpus(stage, p):
    """How many a job on a cluster asks for (profiles/slurm); a local run takes no notice."""
    return int(stage in GPU or stage == "02_coe" and p.coe.teacher == "local")


def file_of(source):
    try:
        return located(source)[1]
    except SourceError:
        return None


def execute(stage, run, overrides):
    """Papermill on the stage's notebook, with what the run takes from others linked first, and reviewers' decisions."""
    before = sweep.MADE[:sweep.MADE.index(stage)] if stage in sweep.MADE else ()
    taken = {other: OWNERS[run, other] for other in before if OWNERS[run, other] != run}
    if run != FULL.run and stage == "02_coe":
        taken["review"] = FULL.run
    code = f"from empathy_lib.sweep import link; link({FULL.outputs!r}, {run!r}, {taken!r})"
    name, folder = NOTEBOOKS[stage[:2]], f"{FULL.outputs}/{run}"
    injected = json.dumps({"params": PARAMS, "overrides": overrides} | (CHOSEN if stage == "08_ablations" else {}))
    return "; ".join([f'echo "── {stage}: notebooks/{name}.ipynb → {folder}/{stage}/"', f'mkdir -p "{folder}/notebooks"',
                      *([shlex.join(["python", "-c", code])] if taken else []), shlex.join(
                          ["papermill", "--log-level", "WARNING", "--stdout-file", "-", f"notebooks/{name}.ipynb",
                           f"{folder}/notebooks/{name}.ipynb", "-y", injected])])


def as_html(notebook, name):
    return shlex.join(["jupyter", "nbconvert", "--log-level", "ERROR", "--to", "html", "--template", "report", "--output-dir", RUN,
                       "--output", name, f"--TemplateExporter.extra_template_basedirs={BUNDLED}", f"{RUN}/notebooks/{notebook}.ipynb"])


COMMANDS["report"] = as_html("06_evaluate", "report")
COMMANDS["ablations"] = execute("08_ablations", FULL.run, OVERRIDES) + "; " + as_html("08_ablations", "ablations")


rule all:  # the stages too, so that a missing one is made again; one system alone cannot be ranked
    input: f"{RUN}/report.html", [f"{RUN}/{stage}/metrics.json" for stage in CHAIN if stage != "07_ranking" or len(FULL.evaluation.systems) > 1]


for run, row in ROWS.items():
    for stage in CHAIN if run == FULL.run else sweep.MADE:
        if OWNERS.get((run, stage), run) != run:
            continue
        place = ROOT / FULL.outputs / run / stage
        # A link from a sweep in which another run made the stage: Snakemake would delete that one's metrics.json through it.
        if place.is_symlink() and not {"-n", "--dry-run", "--unlock"} & set(sys.argv):
            place.unlink()
        job = stage if run == FULL.run else f"{stage}_{run}"
        COMMANDS[job] = execute(stage, run, OVERRIDES if run == FULL.run else row.overrides)
        rule:
            name: job
            input:
                data(stage, row.params),
                [f"{FULL.outputs}/{OWNERS.get((run, other), run)}/{other}/metrics.json" for other in STAGES[stage][1]],
                notebook=f"notebooks/{NOTEBOOKS[stage[:2]]}.ipynb",
            output: f"{FULL.outputs}/{run}/{stage}/metrics.json"
            # else one stage at a time, with the threads it has outside Snakemake, or sums would round otherwise
            threads: 1 if SIDE_BY_SIDE else workflow.cores
            resources: gpu=gpus(stage, row.params)
            params: block=row.params.stage_blocks(stage)
            shell: "{COMMANDS:{rule}.}"


rule ablations:
    input:
        [f"{FULL.outputs}/{OWNERS[run, sweep.LAST]}/{sweep.LAST}/metrics.json" for run in ROWS], str(BUNDLED / "report" / "index.html.j2"),
        notebook="notebooks/08_ablations.ipynb",
    # no output: the tables may be there, made when a run had failed, and Snakemake would not look for what is missing
    shell: "{COMMANDS:{rule}.}"


onerror:
    if SWEEP:  # its tables say which runs are missing, and why
        subprocess.run(COMMANDS["ablations"], shell=True)
        print(f"Not all runs are whole; the tables: {RUN}/ablations.html")


rule report:
    input: f"{RUN}/06_evaluation/metrics.json", str(BUNDLED / "report" / "index.html.j2")
    output: f"{RUN}/report.html"
    shell: "{COMMANDS:{rule}.}"
