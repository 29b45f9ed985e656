"""What LLaMA-Factory and verl must come to with the exports of a run: written from what TRL was given in notebooks 03 and 05.
``python expect.py <run folder>``; see ``make check-exports``."""

import sys
from pathlib import Path

import pandas as pd

from empathy_lib import policy, sft
from empathy_lib.params import load_params
from empathy_lib.schema import read_jsonl, read_questions, write_json

run = Path(sys.argv[1])
params = load_params(run / "params.yaml")
policy.import_backend(params)
from transformers import AutoTokenizer  # noqa: E402

tokenizer = AutoTokenizer.from_pretrained(run / "03_sft" / "base")
rows = sft.rows(read_jsonl(run / "02_coe" / "coe.jsonl"), tokenizer, params)
write_json(run / "export" / "llama_factory" / "expected.json",
           [{key: tokenizer(row[key]).input_ids for key in ("prompt", "completion")} for row in rows])

parts = {name: read_questions(run / "01_dataset" / f"{name}.jsonl")[0] for name in ("train", "dev")}
told = {name: [{"question_id": q.question_id, "prompt": policy.prompt(tokenizer, q.question, params)} for q in part]
        for name, part in parts.items()}
as_logged = {tokenizer.decode(tokenizer(one["prompt"]).input_ids, skip_special_tokens=True): one["question_id"] for one in told["train"]}
rollouts = pd.concat([pd.read_parquet(file) for file in sorted((run / "05_grpo" / "completions").glob("*.parquet"))])
scores = [{"question_id": as_logged[row.prompt], "completion": row.completion, "r": row.format_reward + row.r_answer,
           "parts": {"format_reward": row.format_reward, "r_answer": row.r_answer}, "advantage": row.advantage}
          for row in rollouts.itertuples()]
write_json(run / "export" / "verl" / "expected.json", {**told, "scores": scores})
