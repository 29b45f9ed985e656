"""Supervised fine-tuning: the policy learns the four layers and the answer from the chains (TRL's SFTTrainer)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lib import policy
from empathy_lib.coe import FIELDS, CoE, CoEFormatError, render
from empathy_lib.params import Params
from empathy_lib.view import short_chain


def as_coe(record: dict[str, Any]) -> CoE:
    """The chain of a stored record."""
    return CoE(**{name: record[name] for name in FIELDS})


def texts(chains: Sequence[dict[str, Any]], params: Params) -> list[tuple[str, str]]:
    """The question of each chain (``question``, L1 … L4, ``answer``) and its text, rendered in the short view. ValueError
    where no chain can be rendered; where some cannot, they are left out and counted."""
    found, faults = [], []
    for c in chains:
        try:
            found.append((c["question"], render(short_chain(as_coe(c), params.view), params.coe.layers)))
        except (CoEFormatError, KeyError) as error:
            faults.append(f"{c.get('question_id')}: {error}")
    if faults:
        print(f"{len(faults)} of {len(chains)} chains are left out, the first {faults[0]}")
    if not found:
        raise ValueError("no valid chain of empathy to train on" + (f" (the first, {faults[0]})" if faults else "") +
                         ": see 02_coe/rejected.jsonl, or raise coe.n_chains")
    return found


def rows(chains: Sequence[dict[str, Any]], tokenizer: Any, params: Params) -> list[dict[str, str]]:
    """Chains as TRL prompt-completion rows; loss falls on the completion only. ValueError as for ``texts``."""
    return [{"prompt": policy.prompt(tokenizer, question, params), "completion": text + tokenizer.eos_token}
            for question, text in texts(chains, params)]


def train(chains: Sequence[dict[str, Any]], base: str | Path, folder: Path, params: Params) -> list[dict[str, Any]]:
    """Fine-tune ``base`` on the chains into ``folder/model``; resumes. Returns the log, one dict an update."""
    if not params.sft.epochs:
        return policy.untouched(base, folder, params)
    model, tokenizer = policy.load(base, params, train=True)  # before trl: Unsloth must be imported first
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer
    s, p = params.sft, params.policy
    arguments = SFTConfig(
        **policy.trainer_arguments(params, folder, s), num_train_epochs=s.epochs, save_steps=s.save_steps,
        warmup_steps=s.warmup_steps, lr_scheduler_type="cosine", gradient_accumulation_steps=s.gradient_accumulation,
        gradient_checkpointing=p.gradient_checkpointing, completion_only_loss=True, max_length=p.max_seq_length)
    trainer = SFTTrainer(model=model, processing_class=tokenizer, args=arguments,
                         train_dataset=Dataset.from_list(rows(chains, tokenizer, params)))
    return policy.fit(trainer, folder / "model", lambda target: policy.save(trainer.model, tokenizer, target, params))
