"""Supervised fine-tuning: the policy learns the four layers and the answer from the chains (TRL's SFTTrainer)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lib import policy
from empathy_lib.coe import CoE, render
from empathy_lib.params import Params
from empathy_lib.run import building, checkpoint
from empathy_lib.schema import write_jsonl
from empathy_lib.view import short_chain


def rows(chains: Sequence[dict[str, Any]], tokenizer: Any, params: Params) -> list[dict[str, str]]:
    """Chains (``question``, L1 … L4, ``answer``) as TRL prompt-completion rows; loss falls on the completion only."""
    return [{"prompt": policy.prompt(tokenizer, c["question"], params),
             "completion": render(short_chain(as_coe(c), params.view)) + tokenizer.eos_token} for c in chains]


def as_coe(record: dict[str, Any]) -> CoE:
    """The chain of a stored record."""
    return CoE(**{name: record[name] for name in CoE.__dataclass_fields__})


def train(chains: Sequence[dict[str, Any]], base: str | Path, folder: Path, params: Params) -> list[dict[str, Any]]:
    """Fine-tune ``base`` on the chains into ``folder/model`` (LoRA merged); goes on from a checkpoint.

    Returns:
        The training log, one dict an update (also ``folder/log.jsonl``).

    Raises:
        ValueError: there is no chain to train on.
    """
    if not chains:
        raise ValueError("no chain of empathy to train on: see 02_coe/rejected.jsonl, or raise coe.n_chains")
    model, tokenizer = policy.load(base, params, train=True)  # before trl: Unsloth must be imported first
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    s = params.sft
    arguments = SFTConfig(
        **policy.trainer_arguments(params, folder, s.save_steps), num_train_epochs=s.epochs,
        per_device_train_batch_size=s.batch_size, gradient_accumulation_steps=s.gradient_accumulation,
        learning_rate=s.learning_rate, warmup_steps=s.warmup_steps, lr_scheduler_type="cosine",
        completion_only_loss=True, max_length=params.policy.max_seq_length,
        gradient_checkpointing=params.policy.gradient_checkpointing)
    trainer = SFTTrainer(model=model, processing_class=tokenizer, args=arguments,
                         train_dataset=Dataset.from_list(rows(chains, tokenizer, params)))
    trainer.train(resume_from_checkpoint=checkpoint(folder))
    log = policy.history(trainer)
    write_jsonl(folder / "log.jsonl", log)
    if not (folder / "model").exists():
        with building(folder / "model") as target:
            policy.save(trainer.model, tokenizer, target, params)
    return log
