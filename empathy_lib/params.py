"""Every parameter of the kit: typed, described, with its unit and where its value comes from.

A profile (``params/*.yaml``) states every value; the comment beside a value is its source: ``paper``
(arXiv 2509.14851 states it), ``borrowed`` (from named work on the same base model) or ``ours``.

>>> params = load_params("params/demo.yaml", {"grpo.max_steps": 20})
>>> params.grpo.max_steps
20
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from yaml import YAMLError

from empathy_lib import ROOT

# The blocks each stage's result depends on, beside the results of the stages before it (second tuple).
STAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "01_dataset": (("seed", "dataset"), ()),
    "02_coe": (("seed", "coe"), ("01_dataset",)),
    "03_sft": (("seed", "policy", "view", "demo_model", "sft"), ("01_dataset", "02_coe")),
    "04_reward_model": (("seed", "reward_model"), ("01_dataset",)),
    "05_grpo": (("seed", "policy", "view", "grpo"), ("01_dataset", "03_sft", "04_reward_model")),
    "06_evaluation": (("seed", "policy", "view", "evaluation"),
                      ("01_dataset", "02_coe", "03_sft", "04_reward_model", "05_grpo")),
}


class ParamsError(ValueError):
    """A parameter is unknown, missing, of the wrong type or impossible; the message names key and file."""


def P(description: str, unit: str = "", **limits: Any) -> Any:
    """A required field with a description, a unit and pydantic's limits (``gt``, ``le`` …)."""
    return Field(description=description, json_schema_extra={"unit": unit}, **limits)


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]


class Policy(Block):
    backend: Literal["unsloth", "transformers"] = P("what loads the model: Unsloth, or plain Transformers + PEFT")
    model: str = P("Hugging Face name or folder of the base model; 'demo' trains a small Qwen3 in the run")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = P("number format; auto: what the GPU has")
    load_in_4bit: bool = P("quantise the frozen base to 4 bit (needs bitsandbytes and a GPU)")
    lora_rank: int = P("rank r of the LoRA matrices; 0 is full fine-tuning", ge=0)
    lora_alpha: PositiveInt = P("LoRA scale: updates are multiplied by alpha / r")
    gradient_checkpointing: bool = P("recompute activations in the backward pass to save memory")
    max_seq_length: PositiveInt = P("longest prompt plus completion", "tokens")


class View(Block):
    question_chars: PositiveInt | None = P("whole first sentences of the question up to this; null: all", "chars")
    layer_chars: PositiveInt | None = P("the same for each layer of a chain", "chars")
    answer_chars: PositiveInt | None = P("the same for an answer, and for the references it is scored on", "chars")


class DemoModel(Block):
    vocab_size: int = P("byte-level BPE tokens, learned from the training text", "tokens", ge=400)
    hidden_size: PositiveInt = P("width of the residual stream")
    intermediate_size: PositiveInt = P("width of the feed-forward layer")
    layers: PositiveInt = P("transformer layers")
    heads: PositiveInt = P("attention heads")
    kv_heads: PositiveInt = P("key/value heads (grouped-query attention)")
    epochs: PositiveInt = P("passes over the training questions with plain answers", "epochs")
    batch_size: PositiveInt = P("texts a step")
    learning_rate: Rate = P("AdamW learning rate, cosine to zero")


class Dataset(Block):
    source: str | list[str] = P("'bundled', a JSON Lines file in the kit's schema, or 'cpsycoun:<file>'; or a list")
    min_answer_chars: int = P("shorter answers are dropped", "chars", ge=0)
    dev_fraction: Fraction = P("share of questions held out for choosing (where the source has no split)")
    test_fraction: Fraction = P("share of questions held out for the final figures (likewise)")
    max_questions: PositiveInt | None = P("use this many questions (null: all)", "questions")


class Coe(Block):
    teacher: Literal["bundled"] = P("who wrote the chains of empathy")
    n_chains: PositiveInt = P("chains to train on (fewer where the teacher has fewer)", "chains")


class Sft(Block):
    epochs: PositiveInt = P("passes over the chains", "epochs")
    batch_size: PositiveInt = P("chains a device and forward pass")
    gradient_accumulation: PositiveInt = P("forward passes an update")
    learning_rate: Rate = P("AdamW learning rate, cosine to zero")
    warmup_steps: int = P("updates over which the learning rate rises from 0", "updates", ge=0)
    save_steps: PositiveInt = P("a checkpoint every so many updates", "updates")


class RewardModel(Block):
    encoder: str = P("'static' (bag of characters and bigrams, trained from zero) or a SentenceTransformer's name")
    epochs: PositiveInt = P("passes over the (question, answer, other answer) triplets", "epochs")
    batch_size: PositiveInt = P("triplets a step")
    learning_rate: Annotated[float, Field(gt=0)] = P("AdamW learning rate, linear to zero")
    margin: float = P("m of the triplet loss (Eq. 5): how much nearer, in cosine distance", gt=0, le=2)
    same_topic_fraction: Fraction = P("share of negatives taken from another question of the same topic")
    save_steps: PositiveInt = P("a checkpoint every so many steps", "steps")


class Grpo(Block):
    max_steps: PositiveInt = P("GRPO updates", "steps")
    num_generations: int = P("G: completions sampled for each question (the group)", ge=2)
    batch_size: PositiveInt = P("completions a device and forward pass")
    gradient_accumulation: PositiveInt = P("forward passes an update")
    learning_rate: Rate = P("AdamW learning rate, constant")
    beta: float = P("weight of the KL to the SFT reference (Eq. 2)", gt=0)
    epsilon: Rate = P("clip range of the probability ratio (Eq. 2)")
    temperature: float = P("sampling temperature of the rollouts", gt=0)
    max_completion_tokens: PositiveInt = P("longest completion sampled", "tokens")
    reward: Literal["additive", "gated"] = P("r_format + r_answer, or the answer counts only if the format holds")
    threshold: float = P("T: cosine of question and answer above which r_answer is 1 (Eq. 6)", ge=-1, le=1)
    save_steps: PositiveInt = P("a checkpoint every so many steps", "steps")


class Evaluation(Block):
    n_questions: PositiveInt | None = P("test questions to answer (null: all)", "questions")
    samples_per_question: PositiveInt = P("answers sampled for each question and system")
    temperature: float = P("sampling temperature", gt=0)
    batch_size: PositiveInt = P("completions generated at once")
    max_completion_tokens: PositiveInt = P("longest completion", "tokens")


class Params(Block):
    run: str = P("name of the run: its folder under outputs/", pattern=r"^[\w.-]+$")
    outputs: str = P("folder of all runs")
    seed: int = P("seeds every random choice", ge=0)
    policy: Policy
    view: View
    demo_model: DemoModel | None
    dataset: Dataset
    coe: Coe
    sft: Sft
    reward_model: RewardModel
    grpo: Grpo
    evaluation: Evaluation

    @model_validator(mode="after")
    def possible(self) -> "Params":
        """Combinations that cannot work are an error before any work is done."""
        p, g, d = self.policy, self.grpo, self.demo_model
        checks = [
            ((p.model == "demo") == (d is not None), "demo_model: give it exactly when policy.model is 'demo'"),
            (not (p.model == "demo" and p.load_in_4bit), "policy.load_in_4bit: the demo model is not quantised"),
            (not (p.load_in_4bit and p.lora_rank == 0), "policy.lora_rank: a 4-bit base cannot be fully fine-tuned; "
                                                        "set a rank, or load_in_4bit: false"),
            (g.batch_size * g.gradient_accumulation % g.num_generations == 0,
             "grpo.num_generations: G must divide batch_size × gradient_accumulation "
             f"({g.batch_size} × {g.gradient_accumulation}), or a group would be cut"),
            (g.max_completion_tokens < p.max_seq_length, "grpo.max_completion_tokens: must leave room for the "
             f"prompt in policy.max_seq_length ({p.max_seq_length})"),
            (self.dataset.dev_fraction + self.dataset.test_fraction < 1,
             "dataset.test_fraction: dev_fraction + test_fraction must leave something to train on"),
            (d is None or (d.hidden_size % d.heads == 0 and d.heads % d.kv_heads == 0),
             "demo_model.heads: must divide hidden_size and be a multiple of kv_heads"),
        ]
        for holds, message in checks:
            if not holds:
                raise ValueError(message)
        return self

    def stage_blocks(self, stage: str) -> dict[str, Any]:
        """The resolved values that the result of ``stage`` depends on."""
        everything = self.model_dump()
        return {name: everything[name] for name in STAGES[stage][0]}

    def table(self, *blocks: str) -> list[dict[str, Any]]:
        """Rows (key, value, unit, meaning) of the named blocks, for the notebooks to show."""
        rows = []
        for name in blocks:
            value, field = getattr(self, name), type(self).model_fields[name]
            inner = {f"{name}.{k}": (f, getattr(value, k)) for k, f in type(value).model_fields.items()} \
                if isinstance(value, Block) else {name: (field, value)}
            rows += [{"key": k, "value": v, "unit": (f.json_schema_extra or {}).get("unit", ""),
                      "meaning": f.description} for k, (f, v) in inner.items()]
        return rows


def find(path: str | Path, what: str = "file") -> Path:
    """``path`` from the caller's folder, else from the repository's root; FileNotFoundError names both."""
    for base in (Path.cwd(), ROOT):
        if (base / path).exists():
            return (base / path).resolve()
    raise FileNotFoundError(f"{what} not found: {path} (looked in {Path.cwd()} and {ROOT})")


def sources(path: str | Path) -> dict[str, str]:
    """Where each value of a profile comes from: the comment beside it, by dotted key."""
    found, block = {}, ""
    for line in find(path, "params file").read_text(encoding="utf-8").splitlines():
        match = re.match(r"( *)(\w+):(.*?)(?:\s#\s*(.*))?$", line)
        if match and not line.lstrip().startswith("#"):
            indent, key, value, comment = match.groups()
            block = block if indent else key
            if value.strip():
                found[f"{block}.{key}" if indent else key] = comment or ""
    return found


def load_params(path: str | Path, overrides: dict[str, Any] | None = None) -> Params:
    """Read a profile, apply ``overrides`` (nested or dotted keys), validate.

    Raises:
        FileNotFoundError: there is no such file.
        ParamsError: names every offending key, the file, and the nearest known key.
    """
    file = find(path, "params file")
    try:
        tree = OmegaConf.create({"run": file.stem})
        tree.merge_with(OmegaConf.load(file))
        for key, value in (overrides or {}).items():
            OmegaConf.update(tree, key, value, merge=True, force_add=True)
        return Params.model_validate(OmegaConf.to_container(tree, resolve=True))
    except ValidationError as error:
        raise ParamsError("\n".join(_explain(e, file) for e in error.errors())) from None
    except (YAMLError, OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
        raise ParamsError(f"{file}: cannot be read as parameters: {error}") from None


def _known_keys() -> list[str]:
    keys = []
    for name, field in Params.model_fields.items():
        block = next((t for t in (field.annotation, *getattr(field.annotation, "__args__", ()))
                      if isinstance(t, type) and issubclass(t, Block)), None)
        keys += [name] + [f"{name}.{k}" for k in block.model_fields] if block else [name]
    return keys


def _explain(error: Any, file: Path) -> str:
    key = ".".join(str(part) for part in error["loc"] if isinstance(part, str) and not part.endswith("]"))
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, _known_keys(), n=1, cutoff=0)
        return f"{file}: unknown parameter '{key}'; the nearest known one is '{near[0]}'"
    if error["type"] == "missing":
        return f"{file}: parameter '{key}' is missing"
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], str) and re.fullmatch(r"[\d.]+e-?\d+", error["input"]):
        message += f" (YAML reads {error['input']} as text: write it with a point, as in 5.0e-6)"
    return f"{file}: {key + ': ' if key else ''}{message}" + ("" if error["type"] == "value_error" else
                                                              f", got {error['input']!r}")
