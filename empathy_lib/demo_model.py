"""The demo base: a small Qwen3 and its tokenizer, trained in the run from the run's own training text. It stands in
for Qwen3-8B where no weights can be downloaded; dev and test texts are never seen; nothing it says is advice."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empathy_lib import policy
from empathy_lib.coe import FIELDS, TAGS
from empathy_lib.params import Params
from empathy_lib.run import building
from empathy_lib.schema import Question
from empathy_lib.view import short

END, PAD = "<|im_end|>", "<|endoftext|>"


def tokenizer(texts: Sequence[str], vocab_size: int) -> Any:
    """A byte-level BPE tokenizer with Qwen3's chat template; each tag is one token, so that the format is easier."""
    import trl
    from tokenizers import AddedToken, ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=2, show_progress=False,
                            special_tokens=[PAD, "<|im_start|>", END])
    result = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token=END, pad_token=PAD,
                                     padding_side="left", clean_up_tokenization_spaces=False)
    result.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    result.chat_template = Path(trl.__file__).with_name("chat_templates").joinpath("qwen3.jinja").read_text("utf-8")
    return result


def build(questions: Sequence[Question], chains: Sequence[dict[str, Any]], folder: Path, params: Params) -> dict[str, Any]:
    """Train the demo base on the training questions and their plain answers into ``folder``; resumes; returns its facts. The
    tokenizer also learns from the texts of the chains."""
    from accelerate import PartialState
    from datasets import Dataset
    from transformers import Qwen3Config, Qwen3ForCausalLM, set_seed
    d, p, work = params.demo_model, params.policy, folder.with_name(folder.name + "_training")
    start, pairs = work / "start", [(q.question, a.text) for q in questions for a in q.answers]
    with PartialState(cpu=not policy.on_gpu()).main_process_first():  # of those of ``many_gpus``
        if not start.exists():
            with building(start) as target:
                tok = tokenizer([text for pair in pairs for text in pair] + [c[name] for c in chains for name in FIELDS], d.vocab_size)
                config = Qwen3Config(
                    vocab_size=len(tok), hidden_size=d.hidden_size, intermediate_size=d.intermediate_size,
                    num_hidden_layers=d.layers, num_attention_heads=d.heads, num_key_value_heads=d.kv_heads,
                    head_dim=d.hidden_size // d.heads, max_position_embeddings=p.max_seq_length,
                    tie_word_embeddings=True, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id)
                set_seed(params.seed)
                Qwen3ForCausalLM(config).save_pretrained(target)
                tok.save_pretrained(target)
    full = params.model_copy(update={"policy": p.model_copy(update={"lora_rank": 0})})
    model, tok = policy.load(start, full, train=True)
    from trl import SFTConfig, SFTTrainer
    rows = [{"prompt": policy.prompt(tok, q, params), "completion": short(a, params.view.answer_chars) + END}
            for q, a in pairs]
    arguments = SFTConfig(**policy.trainer_arguments(params, work, d), num_train_epochs=d.epochs, save_steps=200,
                          lr_scheduler_type="cosine", completion_only_loss=False, max_length=p.max_seq_length)
    trainer = SFTTrainer(model=model, processing_class=tok, train_dataset=Dataset.from_list(rows), args=arguments)
    log = policy.fit(trainer, folder, lambda target: policy.save(trainer.model, tok, target, full))
    return {"parameters": model.num_parameters(), "vocabulary": len(tok), "final_loss": log[-1]["loss"]}
