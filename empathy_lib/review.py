"""The review of chains of empathy: what a professional decided on each part of a chain, one decision a line::

    {"question_id": "exams-01", "part": "L2", "decision": "edit", "text": "…", "note": "", "rater": "王芳",
     "time": "2026-11-21T14:30:05.120+00:00", "seen": "9f86d081884c7d65"}

``seen`` is the digest of the text that was judged: where the chain's text is another by now, the decision is stale."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from empathy_lib import schema
from empathy_lib.coe import FIELDS, check
from empathy_lib.schema import append_line

DECISIONS = ("accept", "edit", "reject")


class Decision(BaseModel, strict=True, extra="forbid"):
    """One rater's decision on one part; ``text`` is the edited text, of an edit only; ``time`` is ISO 8601 in UTC."""
    question_id: str
    part: Literal[FIELDS]
    decision: Literal[DECISIONS]
    text: str = ""
    note: str = ""
    rater: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    time: str
    seen: str = Field(pattern="^[0-9a-f]{16}$")

    @model_validator(mode="after")
    def possible(self) -> "Decision":
        if self.decision == "edit":
            check(self.part, self.text)  # not empty, and no tag in it
        elif self.text:
            raise ValueError(f"an edited text with the decision {self.decision}")
        if datetime.fromisoformat(self.time).utcoffset() != timedelta(0):
            raise ValueError("time is not in UTC")
        return self


def plain(text: str) -> str:
    """The text as every browser and sheet gives it back: LF line ends, nothing around, no control characters."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", re.sub("\r\n?", "\n", text)).strip()


def digest(text: str) -> str:
    """16 hexadecimal digits of the SHA-256 of the plain text."""
    return hashlib.sha256(plain(text).encode()).hexdigest()[:16]


def judge(question_id: str, part: str, judged: str, decision: str, rater: str, text: str = "",
          note: str = "", time: str = "") -> dict[str, Any]:
    """The decision, made now or at ``time``, on a part whose text was ``judged``. ValidationError where it breaks a rule."""
    time = time or datetime.now(UTC).isoformat(timespec="milliseconds")
    return Decision(question_id=question_id, part=part, decision=decision, text=plain(text), note=plain(note),
                    rater=rater, time=time, seen=digest(judged)).model_dump()


def as_line(decision: dict[str, Any]) -> bytes:
    """The decision as it stands in the file."""
    return Decision.model_validate(decision).model_dump_json().encode()


def add(file: str | Path, decision: dict[str, Any]) -> None:
    """Append a decision (``schema.append_line``)."""
    append_line(file, as_line(decision))


def read(file: str | Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The latest decision of each rater on each part, in the order made, and the unreadable lines as
    ``{"line", "reason"}``. No file: no decisions."""
    decisions, unreadable = schema.read_valid(file, Decision, "decision")
    return latest(decisions), unreadable


def latest(decisions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each rater's decisions on a part the last, in the order made."""
    return schema.latest(decisions, "question_id", "part", "rater")


def parts(chain: dict[str, Any]) -> list[str]:
    """The parts there are to judge: a layer that was not asked for is empty."""
    return [part for part in FIELDS if chain[part].strip()]


def is_fresh(chain: dict[str, Any], decision: dict[str, Any]) -> bool:
    """Whether the decision is about the chain's text as it is (or is the edit that this text came from)."""
    part, text = decision["part"], plain(chain[decision["part"]])
    return part in parts(chain) and (decision["seen"] == digest(text) or decision["text"] == text)


def fresh(chains: Sequence[dict[str, Any]], decisions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The latest decisions less the stale ones and those on chains that are not here."""
    known = {chain["question_id"]: chain for chain in chains}
    return [d for d in latest(decisions) if d["question_id"] in known and is_fresh(known[d["question_id"]], d)]


def apply(chains: Sequence[dict[str, Any]], decisions: Sequence[dict[str, Any]]) \
        -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """The chains kept, the rejects as ``{"question_id", "reason"}``, and the number of stale decisions (ignored).

    One rejected part rejects a chain; of several edits of a part the latest stands. With all its parts decided a
    chain is "accepted", or "edited" where one was; else its ``decision`` stays."""
    valid = fresh(chains, decisions)
    made = defaultdict(list)
    for decision in valid:
        made[decision["question_id"]].append(decision)
    kept, rejected = [], []
    for chain in chains:
        own = made[chain["question_id"]]
        refusals = [f"{d['part']} rejected by {d['rater']}: {d['note'] or 'no note'}"
                    for d in own if d["decision"] == "reject"]
        edits = {d["part"]: d["text"] for d in own if d["decision"] == "edit"}
        if refusals:
            rejected.append({"question_id": chain["question_id"], "reason": "; ".join(refusals)})
        elif own:
            whole = {d["part"] for d in own} == set(parts(chain))
            outcome = ("edited" if edits else "accepted") if whole else chain["decision"]
            kept.append(chain | edits | {"reviewers": sorted({d["rater"] for d in own}), "decision": outcome})
        else:
            kept.append(chain)
    return kept, rejected, len(latest(decisions)) - len(valid)


def agreement(decisions: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """How far raters agree on accept, edit or reject over the texts that two or more of them judged: number of items,
    raters, share of equal pairs of decisions, Cohen's kappa of each two raters, and Krippendorff's alpha (nominal).
    Where a coefficient is undefined it is None and the ``reason`` beside it says why."""
    import krippendorff
    import numpy as np
    from sklearn.metrics import cohen_kappa_score
    judged = defaultdict(dict)
    for d in latest(decisions):
        judged[d["question_id"], d["part"], d["seen"]][d["rater"]] = DECISIONS.index(d["decision"])
    items = [labels for labels in judged.values() if len(labels) > 1]
    raters = sorted({rater for labels in items for rater in labels})
    pairs = []
    for two in combinations(raters, 2):
        if both := [[labels[rater] for rater in two] for labels in items if all(rater in labels for rater in two)]:
            why = _undefined(both)
            pairs.append({"raters": list(two), "items": len(both), "equal": sum(a == b for a, b in both) / len(both),
                          "kappa": None if why else float(cohen_kappa_score(*zip(*both))), "reason": why})
    equal = sum(p["equal"] * p["items"] for p in pairs) / sum(p["items"] for p in pairs) if pairs else None
    why = _undefined([list(labels.values()) for labels in items])
    table = np.array([[labels.get(rater, np.nan) for labels in items] for rater in raters])
    alpha = None if why else float(krippendorff.alpha(table, level_of_measurement="nominal"))
    return {"items": len(items), "raters": raters, "equal": equal, "pairs": pairs, "alpha": alpha, "reason": why}


def _undefined(items: list[list[int]]) -> str | None:
    """Why chance agreement says nothing about these labels, or None."""
    labels = {label for labels in items for label in labels}
    if not items:
        return "no part was judged by two raters"
    return f"every decision is {DECISIONS[labels.pop()]}" if len(labels) == 1 else None
