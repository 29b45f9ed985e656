"""Every parameter of the kit: typed, described, with its unit. A profile (``params/*.yaml``) states every value; the
comment beside it is its source: ``paper`` (arXiv 2509.14851), ``borrowed`` (named work) or ``ours``."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, Field, PositiveInt, ValidationError, model_validator
from yaml import YAMLError

from empathy_lib import ROOT

# The blocks, or single keys, each stage's result depends on, beside the results of the stages before it (second tuple).
STAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "01_dataset": (("seed", "language", "dataset"), ()),
    "02_coe": (("seed", "language", "policy", "coe"), ("01_dataset",)),
    "03_sft": (("seed", "language", "policy", "view", "demo_model", "coe.layers", "sft"), ("01_dataset", "02_coe")),
    "04_reward_model": (("seed", "language", "policy", "view", "coe.layers", "reward_model"), ("01_dataset", "02_coe", "03_sft")),
    "05_grpo": (("seed", "language", "policy", "view", "coe.layers", "grpo"), ("01_dataset", "03_sft", "04_reward_model")),
    "06_evaluation": (("seed", "language", "policy", "view", "coe.layers", "evaluation"),
                      ("01_dataset", "02_coe", "03_sft", "04_reward_model", "05_grpo"))}


class ParamsError(ValueError):
    """A parameter is unknown, missing, of the wrong type or impossible; the message names key and file."""


def P(description: str, unit: str = "", **limits: Any) -> Any:
    """A required field with a description, a unit and pydantic's limits (``gt``, ``le`` …)."""
    return Field(description=description, json_schema_extra={"unit": unit}, **limits)


class Block(BaseModel, extra="forbid", strict=True, frozen=True):
    """Parameters that belong together: all are required, no other is allowed, no value is coerced or changed."""


Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Chars = PositiveInt | None


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
    question_chars: Chars = P("whole first sentences of the question up to this; null: all", "chars")
    layer_chars: Chars = P("the same for each layer of a chain", "chars")
    answer_chars: Chars = P("the same for an answer, and for the references it is scored on", "chars")


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
    source: str | list[str] = P("'bundled', a file in our schema, '<adapter>:<file>' (see sources.py); or a list")
    min_answer_chars: int = P("shorter answers are dropped", "chars", ge=0)
    dev_fraction: Fraction = P("share of questions held out for choosing (where the source has no split)")
    test_fraction: Fraction = P("share of questions held out for the final figures (likewise)")
    topic_encoder: str = P("what guesses missing topics: 'tfidf' or a SentenceTransformer's name or folder")
    topic_threshold: Fraction = P("cosine to the nearest topic below which a question is 其他")
    crisis_in_training: bool = P("train on questions that the crisis screen marks 'crisis'")
    max_questions: PositiveInt | None = P("use this many questions (null: all)", "questions")


class Coe(Block):
    teacher: Literal["bundled", "openai", "local"] = P("who writes the chains: nobody (they ship), an endpoint, a model")
    n_chains: PositiveInt = P("chains to train on (fewer where the teacher has fewer)", "chains")
    layers: list[Literal["L1", "L2", "L3", "L4"]] = P("layers asked for, taught, parsed and rewarded")
    require_review: bool = P("train only on chains that a reviewer has accepted or edited")
    base_url: str | None = P("openai: address of an OpenAI-compatible endpoint")
    model: str | None = P("openai: the model's name there; local: a Hugging Face name or folder")
    api_key_env: str | None = P("openai: NAME of the environment variable with the key (null: no key)")
    temperature: float = P("sampling temperature of the teacher; 0: greedy", ge=0)
    max_tokens: PositiveInt = P("longest reply, reasoning included", "tokens")
    concurrency: PositiveInt = P("requests at once (openai), texts a batch (local)")
    retries: int = P("repeats of a request after 429, 5xx, a time-out or a lost connection", ge=0)
    timeout: float = P("openai: longest wait for a whole reply", "s", gt=0)
    reasks: int = P("how often a malformed chain is asked for again", ge=0)
    price_prompt: float | None = P("openai: price of the prompt (null: unknown)", "per million tokens", ge=0)
    price_completion: float | None = P("openai: price of the reply", "per million tokens", ge=0)
    spending_limit: float | None = P("openai: no request is sent that could pass it, time-outs counted in full", "as the prices", gt=0)


class Sft(Block):
    epochs: int = P("passes over the chains; 0: no SFT, GRPO starts from the base", "epochs", ge=0)
    batch_size: PositiveInt = P("chains a device and forward pass")
    gradient_accumulation: PositiveInt = P("forward passes an update")
    learning_rate: Rate = P("AdamW learning rate, cosine to zero")
    warmup_steps: int = P("updates over which the learning rate rises from 0", "updates", ge=0)
    save_steps: PositiveInt = P("a checkpoint every so many updates", "updates")


Weight = Annotated[float, Field(ge=0)]
Negative = Literal["random", "same_topic", "hard", "base", "faulty", "padded"]  # see negatives.py


class RewardModel(Block):
    encoder: str = P("'static' or 'two_towers' (mean of token vectors, from zero) or a SentenceTransformer's name")
    epochs: PositiveInt = P("passes over the (question, answer, other answer) triplets", "epochs")
    batch_size: PositiveInt = P("triplets a step")
    learning_rate: Annotated[float, Field(gt=0)] = P("AdamW learning rate, linear to zero")
    margin: float = P("m of the triplet loss (Eq. 5): how much nearer, in cosine distance", gt=0, le=2)
    negatives: dict[Negative, Weight] = P("how often each kind of negative is drawn", "weights")
    save_steps: PositiveInt = P("a checkpoint, and a look at the dev split, every so many steps", "steps")


class Grpo(Block):
    max_steps: int = P("GRPO updates; 0: no GRPO, the policy stays as SFT left it", "steps", ge=0)
    num_generations: int = P("G: completions sampled for each question (the group)", ge=2)
    batch_size: PositiveInt = P("completions a device and forward pass")
    gradient_accumulation: PositiveInt = P("forward passes an update")
    learning_rate: Rate = P("AdamW learning rate, constant")
    beta: float = P("weight of the KL to the SFT reference (Eq. 2)", gt=0)
    epsilon: Rate = P("clip range of the probability ratio (Eq. 2)")
    temperature: float = P("sampling temperature of the rollouts", gt=0)
    max_completion_tokens: PositiveInt = P("longest completion sampled", "tokens")
    reward: Literal["additive", "gated"] = P("r_format + r_answer, or the answer counts only if the format holds")
    answer: Literal["binary", "soft"] = P("r_answer above T (Eq. 6): 1, or the cosine itself")
    threshold: float | Literal["auto"] = P(
        "T: cosine of question and answer above which r_answer counts (Eq. 6); auto: best F1 on the dev split")
    save_steps: PositiveInt = P("a checkpoint, and a look at the dev split, every so many steps", "steps")
    save_every_minutes: float | None = P("a checkpoint also after so long (null: by steps alone)", "min", gt=0)


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

    @model_validator(mode="after")
    def possible(self) -> "Params":
        p, g, d, data, c = self.policy, self.grpo, self.demo_model, self.dataset, self.coe
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
            "reward_model.negatives: at least one kind needs a weight above 0": not any(self.reward_model.negatives.values()),
            f"coe.model: the teacher '{c.teacher}' needs one": c.teacher != "bundled" and not c.model,
            "coe.base_url: the teacher 'openai' needs one": c.teacher == "openai" and not c.base_url,
            "coe.spending_limit: needs coe.price_prompt and coe.price_completion":
                c.spending_limit is not None and None in (c.price_prompt, c.price_completion),
            "demo_model.heads: must divide hidden_size and be a multiple of kv_heads":
                d and (d.hidden_size % d.heads or d.heads % d.kv_heads)}
        if any(wrong.values()):
            raise ValueError("; ".join(message for message, is_so in wrong.items() if is_so))
        return self

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
