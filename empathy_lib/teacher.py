"""Where the chains of empathy come from: the paper's from DeepSeek-R1, reviewed by professionals; the bundled ones from
a language model, synthetic, and no professional has reviewed them, as every record says."""

import random
from collections.abc import Sequence
from typing import Any

from empathy_lib import BUNDLED
from empathy_lib.coe import FIELDS, CoE, CoEFormatError, render
from empathy_lib.schema import Question, read_jsonl, read_questions


def bundled_chains(train: Sequence[Question], n: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """At most ``n`` chains, and rejects: for the run's training questions or, where none fits, for the bundled ones."""
    chains = {c["question_id"]: c for c in read_jsonl(BUNDLED / "coe.jsonl")}
    own = any(q.question_id in chains for q in train)
    asked = train if own else read_questions(BUNDLED / "questions.jsonl")[0]
    texts = {q.question_id: q.question for q in asked if q.question_id in chains}
    kept, rejected = [], []
    for name in sorted(random.Random(seed).sample(sorted(texts), min(n, len(texts)))):
        try:
            chain = CoE(**{field: chains[name][field] for field in FIELDS})
            render(chain)
        except (CoEFormatError, KeyError) as error:
            rejected.append({"question_id": name, "reason": f"{type(error).__name__}: {error}"})
        else:
            kept.append({"question_id": name, "question": texts[name], **vars(chain), "teacher": "bundled",
                         "reviewed": False, "own_question": own})
    return kept, rejected
