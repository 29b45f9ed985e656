"""The card that goes with a trained model: what it is, what it was trained on, how well it keeps the format, and what it
must not be used for (``bundled/model_card.md``, filled in by huggingface_hub)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from empathy_lib import BUNDLED
from empathy_lib.dataset import as_list
from empathy_lib.run import Run, environment


def write(folder: Path, run: Run, stage: str, figures: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write ``folder/README.md`` for the model there; ``figures``: by name a value with ``ci95`` and ``n``."""
    from huggingface_hub import ModelCard, ModelCardData
    from safetensors import safe_open
    p, size, kinds = run.params, 0, set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            for part in map(weights.get_slice, weights.keys()):
                shape, kind = part.get_shape(), part.get_dtype()
                size, kinds = size + math.prod(shape), kinds | {kind}
    coe, demo = run.metrics("02_coe"), p.policy.model == "demo"
    sources = [name.split("/")[-1] for name in as_list(p.dataset.source)]  # a local path may hold a name
    base, blocks = p.policy.model, p.model_dump()
    if Path(base).exists():
        base = blocks["policy"]["model"] = Path(base).name
    data = ModelCardData(language=p.language, library_name="transformers", pipeline_tag="text-generation",
                         base_model=None if demo else base, tags=["empathy-r1", "chain-of-empathy", "research"])
    card = ModelCard.from_template(
        data, template_path=str(BUNDLED / "model_card.md"), title=f"{run.params.run}: {stage}", stage=stage,
        parameters=f"{size:,}", dtype=", ".join(sorted(kinds)), seed=p.seed, source=", ".join(sources),
        layers=", ".join(p.coe.layers) or "no layers", language={"zh": "Chinese", "en": "English"}[p.language],
        base="a small Qwen3 trained in the run: a demo model" if demo else base,
        chains=f"{coe['chains']} ({coe['reviewed']} of them reviewed), by the teacher '{p.coe.teacher}'" if p.sft.epochs else
        "none: no SFT", figures=figures,
        versions=", ".join(f"{name} {version}" for name, version in environment()["versions"].items()),
        warning="".join(f"⚠ {text}.\n" for text in run.warnings()),
        params=OmegaConf.to_yaml(OmegaConf.create({key: blocks[key] for key in ("policy", "view", "sft", "grpo")})))
    card.save(folder / "README.md")
    return folder / "README.md"
