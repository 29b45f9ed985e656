"""The notebooks as a graph over outputs/<run>/: `snakemake --cores all --config params=params/paper.yaml`.

Only each stage's metrics.json is a declared output, because Snakemake deletes the outputs of a killed job and the
checkpoints beside it must live. A rule carries its stage's resolved parameters, so an edit under `grpo` reruns from 05 on.
"""

import json

import yaml

from empathy_lib import BUNDLED, ROOT
from empathy_lib.dataset import as_list
from empathy_lib.params import STAGES, load_params
from empathy_lib.run import other_systems
from empathy_lib.sources import located

PARAMS = config.get("params", "params/demo.yaml")


def typed(value):  # --config hands every value on as text
    return {key: typed(inner) for key, inner in value.items()} if isinstance(value, dict) else \
        [typed(inner) for inner in value] if isinstance(value, list) else yaml.safe_load(str(value))


OVERRIDES = typed(config.get("overrides", {}))
p = load_params(PARAMS, OVERRIDES)
RUN = f"{p.outputs}/{p.run}"
NOTEBOOKS = {"01_dataset": "01_build_dataset", "02_coe": "02_generate_coe", "03_sft": "03_sft",
             "04_reward_model": "04_reward_model", "05_grpo": "05_grpo", "06_evaluation": "06_evaluate", "07_ranking": "07_rank_blind"}
PROMPTS = {name: str(BUNDLED / "prompts" / f"{name}_{p.language}.yaml") for name in ("teacher", "policy")}
RATINGS = [str(path) for path in [ROOT / RUN / "ratings" / "ratings.jsonl"] if path.exists()]
DATA = {"01_dataset": [str(located(name)[1]) for name in as_list(p.dataset.source)], 
        "02_coe": [str(BUNDLED / "coe.jsonl"), str(BUNDLED / "questions.jsonl"), PROMPTS["teacher"],
                   *(str(path) for path in [ROOT / RUN / "review" / "decisions.jsonl"] if path.exists())],
        "04_reward_model": [PROMPTS["policy"], str(BUNDLED / "negatives.jsonl"), str(BUNDLED / "probes.yaml")],
        **{stage: [PROMPTS["policy"]] for stage in ("03_sft", "05_grpo")},
        "06_evaluation": [PROMPTS["policy"], *map(str, other_systems(p).values()), *RATINGS], "07_ranking": RATINGS}
INJECTED = json.dumps({"params": PARAMS, "overrides": OVERRIDES})


rule all:
    input: f"{RUN}/report.html", [f"{RUN}/{stage}/metrics.json" for stage in STAGES]  # so that a missing one is made again


for stage, (blocks, needs) in STAGES.items():
    rule:
        name: stage
        input:
            DATA.get(stage, []), [f"{RUN}/{other}/metrics.json" for other in needs],
            notebook=f"notebooks/{NOTEBOOKS[stage]}.ipynb",
        output: f"{RUN}/{stage}/metrics.json"
        threads: workflow.cores  # one stage at a time, with the threads it has outside Snakemake, or sums would round otherwise
        params: executed=f"{RUN}/notebooks/{NOTEBOOKS[stage]}.ipynb", block=p.stage_blocks(stage)
        shell:
            "echo '── {rule}: {input.notebook} → {RUN}/{rule}/'; mkdir -p {RUN}/notebooks; "
            "papermill --log-level WARNING --stdout-file - {input.notebook} {params.executed} -y {INJECTED:q}"


rule report:
    input: f"{RUN}/06_evaluation/metrics.json", str(BUNDLED / "report" / "index.html.j2")
    output: f"{RUN}/report.html"
    shell:
        "jupyter nbconvert --log-level ERROR --to html --template report "
        "--TemplateExporter.extra_template_basedirs={BUNDLED} --output-dir {RUN} --output report "
        "{RUN}/notebooks/06_evaluate.ipynb"
