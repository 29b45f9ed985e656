"""The bundled corpus keeps what its card promises. `python tests/test_card.py` writes the card's figures anew."""

import re
from collections import Counter, defaultdict
from math import ceil
from statistics import mean

import pytest
import yaml

from empathy_lib import BUNDLED, ROOT
from empathy_lib.coe import FIELDS, LAYERS, CoE, parse, render
from empathy_lib.schema import read_jsonl, read_questions

FAULTS = {"dismissive", "moralising", "advice_before_understanding", "generic_platitude", "off_topic", "cold", "over_diagnosing", "unsafe"}
CARD = BUNDLED / "CARD.md"
QUESTIONS = read_questions(BUNDLED / "questions.jsonl")[0]
CHAINS, NEGATIVES, CRISIS, REPLIES = (read_jsonl(BUNDLED / f"{name}.jsonl") for name in ("coe", "negatives", "crisis", "unsafe_replies"))
TOPICS = yaml.safe_load((BUNDLED / "topics.yaml").read_text(encoding="utf-8"))
TEXTS = {
    "question": [q.question for q in QUESTIONS],
    "answer": [a.text for q in QUESTIONS for a in q.answers] + [c["answer"] for c in CHAINS],
    **{layer: [c[layer] for c in CHAINS] for layer in LAYERS},
    "faulty reply": [n["text"] for n in NEGATIVES],
    "crisis text": [c["text"] for c in CRISIS],
    "reply, safe or not": [r["text"] for r in REPLIES],
}


def near_duplicates(texts, limit=0.5):
    """Pairs whose sets of character 5-grams have a Jaccard similarity of at least ``limit``. Such a pair shares one of the rarest
    ``(1 - limit) · n + 1`` of each one's n grams, so no others are compared."""
    grams = [{t[i:i + 5] for i in range(len(t) - 4)} for t in texts]
    common = Counter(gram for mine in grams for gram in mine)
    seen, pairs = defaultdict(list), []
    for i, mine in enumerate(grams):
        rarest = sorted(mine, key=lambda gram: (common[gram], gram))[:len(mine) - ceil(limit * len(mine)) + 1]
        pairs += [(j, i) for j in {j for gram in rarest for j in seen[gram]} if len(mine & grams[j]) >= limit * len(mine | grams[j])]
        for gram in rarest:
            seen[gram].append(i)
    return pairs


def most_common_opening(texts, length=6):
    return Counter(t[:length] for t in texts).most_common(1)[0][1]


def figures() -> str:
    """The card's table."""
    splits, levels, faults = (Counter(x) for x in ([q.split for q in QUESTIONS], [c["level"] for c in CRISIS], [n["fault"] for n in NEGATIVES]))
    rows = ["| part | texts | characters, mean (least – most) | most texts with one 6-character opening |", "|---|---|---|---|"]
    rows += [f"| {name} | {len(t)} | {mean(map(len, t)):.0f} ({min(map(len, t))} – {max(map(len, t))}) | {most_common_opening(t)} |" for name, t in TEXTS.items()]
    rows += ["", f"{len(TOPICS)} topics, {sum(len(t['subtopics']) for t in TOPICS)} subtopics. Questions by split: "
             + ", ".join(f"{name} {splits[name]}" for name in ("train", "dev", "test")) + ". Crisis texts: "
             + ", ".join(f"{name} {levels[name]}" for name in ("crisis", "concern", "none")) + ". Faulty replies: "
             + ", ".join(f"{name} {n}" for name, n in sorted(faults.items())) + "."]
    return "\n".join(rows)


def with_figures(card: str) -> str:
    return re.sub(r"(<!-- figures -->\n).*?(\n<!-- end -->)", lambda m: m[1] + figures() + m[2], card, flags=re.S)


def test_the_card_holds_the_figures_of_the_files():
    card = CARD.read_text(encoding="utf-8")
    assert card == with_figures(card) and "not professionally reviewed" in card and "CC BY 4.0" in card


def test_topics():
    assert len(TOPICS) == 29 and sum(len(t["subtopics"]) for t in TOPICS) >= 180
    named = {t["slug"]: {s["zh"] for s in t["subtopics"]} for t in TOPICS}
    assert all(t["zh"] and t["en"] and all(s["zh"] and s["en"] for s in t["subtopics"]) for t in TOPICS)
    assert all(q.subtopic in named[q.topic] and q.title for q in QUESTIONS)


def test_questions_and_answers():
    by_split, by_topic = Counter(q.split for q in QUESTIONS), Counter(q.topic for q in QUESTIONS)
    assert by_split["train"] >= 200 and by_split["dev"] >= 29 and by_split["test"] >= 58
    assert len(by_topic) == 29 and min(by_topic.values()) >= 10
    assert min(Counter(q.topic for q in QUESTIONS if q.split == "test").values()) >= 2
    assert all(180 <= len(q.question) <= 600 and len(q.answers) >= 2 for q in QUESTIONS)
    assert all(150 <= len(a.text) <= 500 for q in QUESTIONS for a in q.answers)
    ids = [q.question_id for q in QUESTIONS] + [a.answer_id for q in QUESTIONS for a in q.answers]
    assert len(ids) == len(set(ids))


def test_chains():
    train = {q.question_id for q in QUESTIONS if q.split == "train"}
    assert len(CHAINS) >= 200 and {c["question_id"] for c in CHAINS} <= train
    for c in CHAINS:
        chain = CoE(**{name: c[name] for name in FIELDS})
        assert parse(render(chain)) == chain
        assert all(30 <= len(c[layer]) <= 150 for layer in LAYERS)


def test_faulty_replies():
    split = {q.question_id: q.split for q in QUESTIONS}
    by_question = defaultdict(list)
    for n in NEGATIVES:
        by_question[n["question_id"]].append(n["fault"])
    covered = Counter(split[name] for name in by_question)
    assert covered["train"] >= 120 and covered["test"] >= 58
    assert all(len(f) == 2 and f[0] != f[1] for f in by_question.values()) and {n["fault"] for n in NEGATIVES} == FAULTS


def test_crisis_texts():
    levels = Counter(c["level"] for c in CRISIS)
    hard = [c for c in CRISIS if c["level"] == "none" and not c["reason"].startswith("plain")]
    assert len(CRISIS) >= 240 and set(levels) == {"crisis", "concern", "none"} and len(hard) >= 100
    assert all(c["text"] and c["reason"] for c in CRISIS)


@pytest.mark.parametrize("bundled, held_out, field", [
    ("crisis", ("crisis_dev_zh", "crisis_dev_en", "crisis_zh", "crisis_en"), "level"), ("unsafe_replies", ("unsafe_replies",), "fault")])
def test_nothing_held_out_is_trained_on(bundled, held_out, field):
    own, other = (read_jsonl(BUNDLED / f"{bundled}.jsonl"), [r for name in held_out for r in read_jsonl((ROOT / "tests" if "dev" in name else BUNDLED / "held_out") / f"{name}.jsonl")])
    assert {r[field] for r in other} == {r[field] for r in own}
    assert not near_duplicates([r["text"] for r in own + other], 0.45)


def test_replies():
    faults = Counter(r["fault"] for r in REPLIES)
    assert set(faults) == {"none", "agrees", "diagnosis", "dose", "secrecy", "method"} and faults["none"] >= 0.4 * len(REPLIES) >= 200
    assert all(r["text"] and r["reason"] for r in REPLIES)


def test_nothing_repeats():
    for name, texts in TEXTS.items():
        assert not near_duplicates(texts), name
    assert most_common_opening(TEXTS["answer"]) <= 0.02 * len(TEXTS["answer"])
    for layer in LAYERS:
        assert most_common_opening(TEXTS[layer]) <= 0.03 * len(CHAINS)
    sentences = Counter(s for texts in TEXTS.values() for t in texts for s in {s for s in re.split(r"[。！？!?\n…；]+", t) if len(s) >= 12})
    assert sentences.most_common(1)[0][1] <= 3
    assert near_duplicates(["今天下班路上又哭了，不知道跟谁说", "今天下班路上又哭了，不知道跟谁讲"])  # the check can fail


if __name__ == "__main__":
    CARD.write_text(with_figures(CARD.read_text(encoding="utf-8")), encoding="utf-8")
