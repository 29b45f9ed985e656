"""Every parameter of the kit: typed, described, with its unit. A profile (``params/*.yaml``) states every value; the
comment beside it is its source: ``paper`` (arXiv 2509.14851), ``borrowed`` (named work) or ``ours``."""

import difflib
import re
from pathlib import Path
from typing import Any, Literal, get_args

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError, model_validator
from yaml import YAMLError

from empathy_lib import ROOT
from empathy_lib.blocks import (
    Block, Coe, Dataset, DemoModel, Evaluation, Grpo, Judge, P, Policy, Ranking, RewardModel, Sft, View)
from empathy_lib.coe import LAYERS

# The blocks, or single keys, each stage's result depends on, beside the results of the stages before it (second tuple).
STAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "01_dataset": (("seed", "language", "dataset"), ()),
    "02_coe": (("seed", "language", "policy", "coe"), ("01_dataset",)),
    "03_sft": (("seed", "language", "policy", "view", "demo_model", "coe.layers", "sft"), ("01_dataset", "02_coe")),
    "04_reward_model": (("seed", "language", "policy", "view", "coe.layers", "reward_model"), ("01_dataset", "02_coe", "03_sft")),
    "05_grpo": (("seed", "language", "policy", "view", "coe.layers", "grpo"), ("01_dataset", "03_sft", "04_reward_model")),
    "06_evaluation": (("seed", "language", "policy", "view", "coe.layers", "evaluation"),
                      ("01_dataset", "02_coe", "03_sft", "04_reward_model", "05_grpo")),
    "07_ranking": (("seed", "language", "view", "ranking", "judge"), ("04_reward_model", "06_evaluation")),
    "08_ablations": (("language",), ("06_evaluation",))}  # of many runs: see sweep.py
CHAIN = tuple(STAGES)[:-1]  # the stages of a single run


class ParamsError(ValueError):
    """A parameter is unknown, missing, of the wrong type or impossible; the message names key and file."""


class Params(Block):
    run: str = P("name of the run: its folder under outputs/", pattern=r"^[\w.-]+$")
    outputs: str = P("folder of all runs")
    seed: int = P("seeds every random choice", ge=0)
    language: Literal["zh", "en"] = P("of the questions: prompt, tokenizers, shingles, topics")
    policy: Policy
    view: View
    demo_model: DemoModel | None
    dataset: Dataset
    coe: Coe
    sft: Sft
    reward_model: RewardModel
    grpo: Grpo
    evaluation: Evaluation
    ranking: Ranking
    judge: Judge | None

    @model_validator(mode="after")
    def possible(self) -> "Params":
        p, g, d, data, c, j = self.policy, self.grpo, self.demo_model, self.dataset, self.coe, self.judge
        step, room = g.batch_size * g.gradient_accumulation, p.max_seq_length - g.max_completion_tokens
        wrong = {  # message: whether it is so
            "demo_model: give it exactly when policy.model is 'demo'": (p.model == "demo") != (d is not None),
            "policy.load_in_4bit: the demo model is not quantised": p.model == "demo" and p.load_in_4bit,
            "policy.lora_rank: a 4-bit base cannot be fully fine-tuned; set a rank": p.load_in_4bit and not p.lora_rank,
            f"grpo.num_generations: must divide batch_size × gradient_accumulation = {step}": step % g.num_generations,
            "grpo.max_completion_tokens: must be less than policy.max_seq_length": room <= 0,
            "dataset.test_fraction: nothing is left to train on": data.dev_fraction + data.test_fraction >= 1,
            "coe.layers: each at most once, in the order L1 to L4": c.layers != sorted(set(c.layers)),
            f"grpo.threshold: a cosine lies between -1 and 1, got {g.threshold}": g.threshold != "auto" and not -1 <= g.threshold <= 1,
            "grpo.fast_inference: needs policy.backend unsloth and a policy.lora_rank": g.fast_inference and not (p.backend == "unsloth" and p.lora_rank),
            "reward_model.negatives: at least one kind needs a weight above 0": not any(self.reward_model.negatives.values()),
            f"coe.model: the teacher '{c.teacher}' needs one": c.teacher != "bundled" and not c.model,
            "coe.base_url: the teacher 'openai' needs one": c.teacher == "openai" and not c.base_url,
            "evaluation.systems: each at most once, and empathy_r1 among them":
                "empathy_r1" not in (own := self.evaluation.systems) or len(own) > len(set(own)),
            "evaluation.others: base, base_coe, sft and empathy_r1 are this run's own":
                {"base", "base_coe", "sft", "empathy_r1"} & set(self.evaluation.others),
            "judge: needs base_url and model (null: no judge)": j and not (j.base_url and j.model),
            **{f"{e.name}.spending_limit: needs {e.name}.price_prompt and {e.name}.price_completion":
               e.spending_limit is not None and None in (e.price_prompt, e.price_completion) for e in (c, j) if e},
            "demo_model.heads: must divide hidden_size and be a multiple of kv_heads":
                d and (d.hidden_size % d.heads or d.heads % d.kv_heads)}
        if any(wrong.values()):
            raise ValueError("; ".join(message for message, is_so in wrong.items() if is_so))
        return self

    @property
    def whole(self) -> bool:
        """Whether this is the full system: every layer, SFT and GRPO."""
        return self.coe.layers == list(LAYERS) and self.sft.epochs > 0 and self.grpo.max_steps > 0

    def stage_blocks(self, stage: str) -> dict[str, Any]:
        """The resolved values that the result of ``stage`` depends on."""
        keys = (name.partition(".")[::2] for name in STAGES[stage][0])
        return self.model_dump(include={block: {key} if key else True for block, key in keys},
                               exclude={"grpo": {"save_every_minutes"}})  # changes no result: a run may go on with another

    def table(self, *blocks: str) -> list[dict[str, Any]]:
        """Rows (key, value, unit, meaning) of the named blocks, for the notebooks to show."""
        rows = []
        for name in blocks:
            value, fields = getattr(self, name), {name: (type(self).model_fields[name], getattr(self, name))}
            if isinstance(value, Block):
                fields = {f"{name}.{k}": (field, getattr(value, k)) for k, field in type(value).model_fields.items()}
            rows += [{"key": k, "value": v, "unit": (field.json_schema_extra or {}).get("unit", ""),
                      "meaning": field.description} for k, (field, v) in fields.items()]
        return rows


def find(path: str | Path, what: str = "file") -> Path:
    """``path`` from the caller's folder, else from the repository's root; FileNotFoundError names both."""
    for base in (Path.cwd(), ROOT):
        if (base / path).exists():
            return (base / path).resolve()
    raise FileNotFoundError(f"{what} not found: {path} (looked in {Path.cwd()} and {ROOT})")


def load_params(path: str | Path, overrides: dict[str, Any] | None = None) -> Params:
    """Read a profile, apply ``overrides`` (nested or dotted keys), validate; FileNotFoundError or ParamsError."""
    file = find(path, "params file")
    try:
        tree = OmegaConf.create({"run": file.stem})
        tree.merge_with(OmegaConf.load(file))
        for key, value in (overrides or {}).items():
            OmegaConf.update(tree, key, value, merge=True, force_add=True)
        return Params.model_validate(OmegaConf.to_container(tree, resolve=True))
    except ValidationError as error:
        raise ParamsError("\n".join(f"{file}: {_explain(e)}" for e in error.errors())) from None
    except (YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
        raise ParamsError(f"{file}: cannot be read as parameters: {error}") from None


def _explain(error: Any) -> str:
    """One of pydantic's errors in the words of a params file."""
    key = ".".join(part for part in error["loc"] if isinstance(part, str) and not part.endswith("]") and part not in ("float", "str"))
    if error["type"] == "missing":
        return f"parameter '{key}' is missing"
    if error["type"] == "value_error":
        return error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = list(Params.model_fields)
        for name, field in Params.model_fields.items():
            block = (get_args(field.annotation) or [field.annotation])[0]  # of ``DemoModel | None``: DemoModel
            known += [f"{name}.{inner}" for inner in getattr(block, "model_fields", ())]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0)
        return f"unknown parameter '{key}'; the nearest known one is '{near[0]}'"
    as_text = isinstance(error["input"], str) and re.fullmatch(r"[\d.]+e-?\d+", error["input"])
    hint = " (YAML reads this as text: write it with a point, as in 5.0e-6)" if as_text else ""
    return f"{key}: {error['msg']}, got {error['input']!r}{hint}"
