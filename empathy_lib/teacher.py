"""Where the chains of empathy come from. So far one teacher: the chains that ship with the kit.

The paper made 200 chains with DeepSeek-R1 and had professionals review them. The bundled ones were written by a
language model, are synthetic, and no professional has reviewed them; every record says so.
"""

import random
from collections.abc import Sequence
from typing import Any

from empathy_lib import BUNDLED
from empathy_lib.coe import FIELDS, CoE, CoEFormatError, parse, render
from empathy_lib.schema import Question, read_jsonl, read_questions


def bundled_chains(train: Sequence[Question], n: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """At most ``n`` chains: those for the run's training questions, or, where none fits, for the bundled ones.

    Only chains of bundled *training* questions exist, so no dev or test question of the kit is ever taught.

    Returns:
        Chains (``question_id``, ``question``, L1 … L4, ``answer``, ``teacher``, ``reviewed``, ``own_question``: whether
        the question is one of the run's), and rejects (``question_id``, ``reason``).
    """
    chains = {c["question_id"]: c for c in read_jsonl(BUNDLED / "coe.jsonl")}
    texts = {q.question_id: q.question for q in train if q.question_id in chains}
    own = bool(texts)
    if not own:
        texts = {q.question_id: q.question for q in read_questions(BUNDLED / "questions.jsonl")[0]
                 if q.question_id in chains}
    names = sorted(texts)
    names = sorted(random.Random(seed).sample(names, min(n, len(names))))
    kept, rejected = [], []
    for name in names:
        try:
            chain = CoE(**{field: chains[name][field] for field in FIELDS})
            parse(render(chain))
        except (CoEFormatError, KeyError) as error:
            rejected.append({"question_id": name, "reason": f"{type(error).__name__}: {error}"})
        else:
            kept.append({"question_id": name, "question": texts[name], **vars(chain), "teacher": "bundled",
                         "reviewed": False, "own_question": own})
    return kept, rejected
