"""The language model: prompt it, load it, train it, sample from it, save it. One code path on CPU and GPU,
through Unsloth, or plain Transformers + PEFT where Unsloth does not import (``policy.backend``)."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from empathy_lib.params import Params
from empathy_lib.prompts import policy as system_prompt
from empathy_lib.run import building, checkpoint
from empathy_lib.schema import append_line, read_jsonl, read_lines, write_jsonl
from empathy_lib.view import short

LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def unsloth() -> Any:
    """Unsloth's FastLanguageModel, to be imported before trl and transformers; ImportError names the two ways out."""
    os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
    try:
        from unsloth import FastLanguageModel
    except (ImportError, RuntimeError) as error:  # the second is Unsloth's own, on a machine that it has no backend for
        raise ImportError(f"Unsloth cannot be imported here ({error}). Install it as README says, or set "
                          "policy.backend: transformers in the params file.") from error
    return FastLanguageModel


def import_backend(params: Params) -> None:
    """Import Unsloth, where it is the backend: it must come before transformers, trl and sentence-transformers. Of several GPUs
    a process keeps to one, unless told otherwise: Transformers would split its batches over all (``many_gpus`` has several)."""
    if "LOCAL_RANK" not in os.environ:  # not of torchrun's
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    if params.policy.backend == "unsloth":
        unsloth()


def base(params: Params, run_folder: Path) -> str | Path:
    """The untrained policy: the demo model of the run, or the named one."""
    return run_folder / "03_sft" / "base" if params.policy.model == "demo" else params.policy.model


def on_gpu() -> bool:
    """Whether there is a GPU that torch can use."""
    import torch
    return torch.cuda.is_available()


def dtype(params: Params) -> Any:
    """The torch dtype of ``policy.dtype``; ``auto`` is bfloat16 or float16 by what the GPU has, float32 on a CPU."""
    import torch
    if params.policy.dtype != "auto":
        return getattr(torch, params.policy.dtype)
    if not on_gpu():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def messages(question: str, params: Params, plain: bool = False) -> list[dict[str, str]]:
    """What the model is told and asked; ``plain`` asks for no format."""
    return [{"role": "system", "content": system_prompt(params.language, None if plain else params.coe.layers)},
            {"role": "user", "content": short(question, params.view.question_chars)}]


def prompt(tokenizer: Any, question: str, params: Params, plain: bool = False) -> str:
    """What the model continues: the chat template, with Qwen3's ``<think>`` block closed so that none leaks out."""
    return tokenizer.apply_chat_template(messages(question, params, plain), tokenize=False, add_generation_prompt=True,
                                         enable_thinking=False)


def load(name: str | Path, params: Params, train: bool = False, vllm: bool = False) -> tuple[Any, Any]:
    """Model and tokenizer of a folder or hub name; to ``train`` with a LoRA rank > 0, with fresh (neutral) adapters; with
    ``vllm``, Unsloth's trainer samples through that engine, which takes half of the GPU's memory and shares the weights.
    FileNotFoundError for a folder without a tokenizer; ValueError for ``vllm`` without a GPU."""
    p, full = params.policy, params.policy.lora_rank == 0
    if Path(name).is_dir() and not (Path(name) / "tokenizer_config.json").exists():
        raise FileNotFoundError(f"{name} holds no tokenizer: copy tokenizer.json and tokenizer_config.json of the model it "
                                "was made from into it")
    if vllm and not on_gpu():
        raise ValueError("grpo.fast_inference: there is no GPU for vLLM here; set it to false")
    lora = dict(r=p.lora_rank, lora_alpha=p.lora_alpha, lora_dropout=0.0, bias="none", target_modules=LORA_TARGETS)
    if p.backend == "unsloth":
        fast, again = unsloth(), "unsloth" if p.gradient_checkpointing else False  # not said, Unsloth recomputes activations
        model, tokenizer = fast.from_pretrained(
            str(name), max_seq_length=p.max_seq_length, dtype=dtype(params), load_in_4bit=p.load_in_4bit,
            full_finetuning=train and full, use_gradient_checkpointing=again,
            **dict(fast_inference=True, max_lora_rank=p.lora_rank) if vllm else {})
        if train and not full:
            model = fast.get_peft_model(model, **lora, random_state=params.seed, use_gradient_checkpointing=again)
        if not train:
            fast.for_inference(model)
    else:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
        quantise = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                      bnb_4bit_compute_dtype=dtype(params)) if p.load_in_4bit else None
        tokenizer = AutoTokenizer.from_pretrained(str(name))
        model = AutoModelForCausalLM.from_pretrained(
            str(name), dtype=dtype(params), quantization_config=quantise,
            device_map={"": int(os.environ.get("LOCAL_RANK", 0))} if on_gpu() else None)  # set by torchrun
        if train and not full:
            set_seed(params.seed)
            model = get_peft_model(model, LoraConfig(**lora, task_type="CAUSAL_LM"))
    tokenizer.padding_side = "left"
    return model, tokenizer


def save(model: Any, tokenizer: Any, folder: Path, params: Params) -> None:
    """Save the whole model as safetensors, LoRA merged into the weights, so that any stage can load it alone."""
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder)
    elif params.policy.backend == "unsloth":
        model.save_pretrained_merged(str(folder), tokenizer, save_method="merged_16bit")
    else:
        model.merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def generate(model: Any, tokenizer: Any, prompts: Sequence[str], *, temperature: float, max_new_tokens: int,
             batch_size: int, seed: int, what: str = "generate", kept: Path | None = None) -> list[str]:
    """One completion for each prompt, sampled (greedy at temperature 0), special tokens removed, seeded by batch. Finished
    batches are ``kept`` in a file, if one is named, and not made again."""
    import torch
    from tqdm.auto import tqdm
    from transformers import set_seed
    model.eval()
    sampling = dict(do_sample=True, temperature=temperature, top_k=0, top_p=1.0) if temperature else dict(do_sample=False)
    completions = []
    for _, line in read_lines(kept) if kept and kept.exists() else ():
        try:
            said = json.loads(line)
        except ValueError:  # the process died while it wrote this one
            continue
        if [asked for asked, _ in said] == list(prompts[len(completions):len(completions) + batch_size]):  # else of other params
            completions += [text for _, text in said]
    starts = range(len(completions), len(prompts), batch_size)
    for start in tqdm(starts, desc=what, unit="batch", initial=len(completions) // batch_size, total=-(-len(prompts) // batch_size)):
        set_seed(seed + start)
        batch = tokenizer(list(prompts[start:start + batch_size]), return_tensors="pt", padding=True).to(model.device)
        with torch.inference_mode():
            out = model.generate(**batch, **sampling, max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id)
        said = tokenizer.batch_decode(out[:, batch.input_ids.shape[1]:], skip_special_tokens=True)
        completions += said
        if kept:
            append_line(kept, json.dumps(list(zip(prompts[start:], said)), ensure_ascii=False).encode())
    return completions


def trainer_arguments(params: Params, folder: Path, block: Any) -> dict[str, Any]:
    """What every trainer of the kit shares, and the batch size and learning rate of the stage's ``block``."""
    kind = str(dtype(params))
    return dict(output_dir=str(folder), seed=params.seed, data_seed=params.seed, report_to="none", logging_steps=1,
                save_strategy="steps", save_total_limit=2, bf16=kind == "torch.bfloat16", fp16=kind == "torch.float16",
                per_device_train_batch_size=block.batch_size, learning_rate=block.learning_rate, use_cpu=not on_gpu(),
                ddp_find_unused_parameters=False)  # there are none; looking for them breaks recomputed activations


def fit(trainer: Any, target: Path, save_to: Callable[[Path], Any]) -> list[dict[str, Any]]:
    """Train on from the newest whole checkpoint, write ``log.jsonl`` beside it, and save to ``target`` where it is not
    there yet. Returns the log, one dict a step, without times and totals, which differ after an interruption. Of several
    processes (``many_gpus``) all train, and the first writes."""
    from transformers import TrainerCallback
    folder = Path(trainer.args.output_dir)
    if target.exists():
        return read_jsonl(folder / "log.jsonl")

    class Progress(TrainerCallback):  # ten lines of text for headless runs, where no bar can be seen
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **kwargs: Any) -> None:
            if state.global_step % max(1, state.max_steps // 10) == 0 and "loss" in logs:
                print(f"{Path(args.output_dir).name}: step {state.global_step} of {state.max_steps}", flush=True)

    trainer.add_callback(Progress())
    with trainer.args.main_process_first(local=False):  # it removes half-written checkpoints
        newest = checkpoint(folder)
    trainer.train(resume_from_checkpoint=newest)
    dropped = ("runtime", "per_second", "time", "flos", "num_input_tokens")
    log = [{key: value for key, value in row.items() if not any(part in key for part in dropped)}
           for row in trainer.state.log_history if "train_loss" not in row]
    if trainer.is_world_process_zero():
        write_jsonl(folder / "log.jsonl", log)
        with building(target) as temporary:
            save_to(temporary)
    trainer.accelerator.wait_for_everyone()
    return log


def untouched(start: str | Path, folder: Path, params: Params) -> list[dict[str, Any]]:
    """A stage of no steps: ``folder/model`` is ``start`` itself, whole (a 4-bit one could not be merged into later); the
    log is empty."""
    whole = params.model_copy(update={"policy": params.policy.model_copy(update={"load_in_4bit": False})})
    if os.environ.get("RANK", "0") != "0":  # one process does it
        return []
    if not (folder / "model").exists():
        with building(folder / "model") as temporary:
            model, tokenizer = load(start, whole)
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
    write_jsonl(folder / "log.jsonl", [])
    return []
