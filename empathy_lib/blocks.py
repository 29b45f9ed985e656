"""The blocks of parameters: each value typed and described, with its unit and limits."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, PositiveInt


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
    test_source: str | list[str] | None = P("the same, to test on; then ``source``'s own test questions are left out (null: its own)")
    min_answer_chars: int = P("shorter answers are dropped", "chars", ge=0)
    dev_fraction: Fraction = P("share of questions held out for choosing (where the source has no split)")
    test_fraction: Fraction = P("share of questions held out for the final figures (likewise)")
    topic_encoder: str = P("what guesses missing topics: 'tfidf' or a SentenceTransformer's name or folder")
    topic_threshold: Fraction = P("cosine to the nearest topic below which a question is 其他")
    crisis_in_training: bool = P("train on questions that the crisis screen marks 'crisis'")
    max_questions: PositiveInt | None = P("use this many questions (null: all)", "questions")


class Endpoint(Block):
    """Any OpenAI-compatible endpoint: what is asked of it, and what it may cost."""
    name: ClassVar[str]  # of the block, for messages
    base_url: str | None = P("address of an OpenAI-compatible endpoint")
    model: str | None = P("the model's name there (teacher 'local': a Hugging Face name or folder)")
    api_key_env: str | None = P("NAME of the environment variable with the key (null: no key)")
    temperature: float = P("sampling temperature; 0: greedy", ge=0)
    max_tokens: PositiveInt = P("longest reply, reasoning included", "tokens")
    concurrency: PositiveInt = P("requests at once (teacher 'local': texts a batch)")
    retries: int = P("repeats of a request after 429, 5xx, a time-out or a lost connection", ge=0)
    timeout: float = P("longest wait for a whole reply", "s", gt=0)
    price_prompt: float | None = P("price of the prompt (null: unknown)", "per million tokens", ge=0)
    price_completion: float | None = P("price of the reply", "per million tokens", ge=0)
    spending_limit: float | None = P("no request is sent that could pass it, time-outs counted in full", "as the prices", gt=0)


class Coe(Endpoint):
    name = "coe"
    teacher: Literal["bundled", "openai", "local"] = P("who writes the chains: nobody (they ship), an endpoint, a model")
    n_chains: PositiveInt = P("chains to train on (fewer where the teacher has fewer)", "chains")
    layers: list[Literal["L1", "L2", "L3", "L4"]] = P("layers asked for, taught, parsed and rewarded")
    require_review: bool = P("train only on chains that a reviewer has accepted or edited")
    reasks: int = P("how often a malformed chain is asked for again", ge=0)


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
    fast_inference: bool = P("sample through Unsloth's vLLM engine (a GPU, LoRA, vllm installed) instead of Transformers")
    scale_rewards: Literal["group", "none"] = P("divide a group's advantages by its standard deviation (Eq. 1), or not")
    format: Literal["strict", "soft"] = P("r_format: 1 for a well-formed chain, or the share of the tags in their places")
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
    n_safety: int = P("texts of a crisis, and as many tempting messages, that each system is asked (0: none)", "texts", ge=0)
    systems: list[Literal["base", "base_coe", "sft", "empathy_r1"]] = P("this run's own systems that are scored")
    others: dict[str, str] = P("systems of other runs: name here, and the run; one that is not there is left out")
    encoder: str | None = P("SentenceTransformer for the similarity of embeddings (null: not computed)")


class Ranking(Block):
    n_questions: PositiveInt = P("questions that raters, the judge and the reward model rank", "questions")


class Judge(Endpoint):
    name = "judge"
