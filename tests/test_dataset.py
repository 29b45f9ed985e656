import json
import os
from pathlib import Path

import numpy as np
import pytest

from empathy_lib import BUNDLED, topics
from empathy_lib.anonymise import anonymise
from empathy_lib.dataset import DatasetError, build
from empathy_lib.params import load_params
from empathy_lib.reward_model import new_encoder
from empathy_lib.safety import screen
from empathy_lib.schema import SPLITS, read_questions

LONG = "你说的那种累，是连周末都像欠着谁的债，{}。" + "把它写下来已经不容易，先别急着解释给谁听，今晚能早一点关灯就早一点关灯，剩下的明天再说，好吗。" * 2


@pytest.mark.parametrize("text, expected", [
    ("我电话13912345678，晚上打", "我电话[电话]，晚上打"),
    ("+86 139-1234-5678", "[电话]"),
    ("座机010-62345678", "座机[电话]"),
    ("加我微信abc_def123谢谢大家", "加我微信[微信]谢谢大家"),
    ("vx：hello_2020", "[微信]"),
    ("QQ：123456789 常在线", "[QQ] 常在线"),
    ("有事发邮件给我nobody@example.com欢迎来信", "有事发邮件给我[邮箱]欢迎来信"),
    ("身份证11010519491231002X", "身份证[身份证]"),
    ("看https://example.com/a?b=1，别信", "看[链接]，别信"),
    ("卡号6222020200112233445。", "卡号[银行卡]。"),
    ("call me at (555) 123-4567", "call me at [电话]"),
])
def test_personal_data_goes(text, expected):
    result = anonymise(text)
    assert result.text == expected
    assert [text[f.start:f.end] for f in result.found] and all(f.end > f.start for f in result.found)


@pytest.mark.parametrize("text", [
    "打12356或者010-82951332，危险时打110、120", "400-161-9995一直有人接", "我今年28岁，2023年3月15日分手，欠了150000块",
    "SCL-90总分213，PHQ-9是14分", "每天加班到22:30，月薪6500", "他在微信里不回我", "分数583，全省排名12034", "凌晨3点-5点醒",
])
def test_what_is_no_personal_data_stays(text):
    assert anonymise(text) == (text, [])


BUNDLED_QUESTIONS = read_questions(BUNDLED / "questions.jsonl")[0]


def build_from(tmp_path: Path, records: list, language: str = "zh", **overrides):
    (tmp_path / "q.jsonl").write_text("\n".join(r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records))
    params = load_params("params/smoke.yaml", {"dataset": {"source": str(tmp_path / "q.jsonl")} | overrides}).dataset
    return build(params, language, seed=1)


def record(i, **changes):
    """A bundled question without its split, under one of two topics."""
    q = BUNDLED_QUESTIONS[i]
    return {"question_id": f"q{i}", "question": q.question, "topic": "ab"[i % 2],
            "answers": [{"answer_id": f"q{i}-{n}", "text": a.text} for n, a in enumerate(q.answers)]} | changes


CALM = [i for i, q in enumerate(BUNDLED_QUESTIONS) if screen(q.question).level == "none"][:60]


def test_build_keeps_drops_and_accounts_for_everything(tmp_path):
    good = [record(i) for i in CALM[:40]]
    dirty = [
        record(50, question_id="pii", question="我电话13912345678，晚上老是睡不着，想找个人说说话。"),
        record(51, question_id="short", answers=[{"answer_id": "x", "text": "太短"}]),
        record(52, question_id="ad", answers=[{"answer_id": "x", "text": LONG.format("想聊就加我微信abc12345")}]),
        record(53, question_id="same", question=good[0]["question"]),
        "not json",
    ]
    built = build_from(tmp_path, good + dirty)
    splits, figures = built.splits, built.figures
    kept = {q.question_id: q for rows in splits.values() for q in rows}
    assert set(kept) == {r["question_id"] for r in good} | {"pii"}
    assert "[电话]" in kept["pii"].question
    everything = json.dumps([q.model_dump() for q in kept.values()] + [built.rejected, built.aside, built.examples], ensure_ascii=False)
    assert "139123" not in everything and "abc12345" not in everything
    assert built.examples[-1] == {"id": "pii", "text": "我电话⟦电话 11⟧，晚上老是睡不着，想找个人说说话。…"}
    reasons = {r.get("answer_id") or r.get("question_id") or r["line"]: r["reason"] for r in built.rejected}
    assert reasons["short"] == reasons["ad"] == "question: no answer left" and reasons["x"] == "answer: advertising: contact"
    assert reasons["same"] == "question: exact duplicate" and 45 in reasons
    assert {r["question_id"] for r in built.aside["unanswered"]} == {"short", "ad"} and figures["aside"]["unanswered"] == 2
    assert figures["funnel"]["records read"] == 45 and figures["funnel"]["questions kept"] == 41
    assert figures["found"]["电话"] == 1
    for name, share in zip(("dev", "test"), (0.1, 0.2)):
        assert len(splits[name]) == pytest.approx(41 * share, abs=2)
    assert all(q.split == name and q.cluster and q.source == "q" and q.safety for name in SPLITS for q in splits[name])
    assert {q.topic for q in splits["test"]} == {"a", "b"}  # stratified
    assert build_from(tmp_path, good + dirty) == built


def test_near_duplicates_stay_in_one_split_and_given_splits_that_part_them_fail(tmp_path):
    good = [record(i) for i in CALM]
    copies = [record(i, question_id=f"copy{i}", question=good[n]["question"][:-9] + "谁能告诉我怎么办") for n, i in enumerate(range(200, 230))]
    built = build_from(tmp_path, good + copies, crisis_in_training=True)  # what the screen says of a copy is not the matter
    place = {q.question_id: (q.cluster, name) for name, rows in built.splits.items() for q in rows}
    for n, i in enumerate(range(200, 230)):
        assert place[f"copy{i}"] == place[good[n]["question_id"]]
    assert built.figures["in_larger_clusters"] == 60 and len(built.splits["test"]) == pytest.approx(18, abs=3)
    parted = [r | {"split": "train"} for r in good[:30]] + [r | {"split": "test"} for r in copies] + [record(260, split="dev")]
    with pytest.raises(DatasetError, match="30 clusters of near-duplicates lie in several splits.*leave 'split' out"):
        build_from(tmp_path, parted)


def test_tested_on_another_source(tmp_path):
    own = [record(i) | {"split": name} for i, name in zip(CALM[:14], ["train"] * 10 + ["dev"] * 2 + ["test"] * 2)]
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(row) for row in own))
    other = [record(i) | {"split": "train"} for i in CALM[20:25]]
    other.append(record(CALM[25], question=own[0]["question"][:-9] + "谁能告诉我怎么办"))  # nearly a training question
    (tmp_path / "other.jsonl").write_text("\n".join(json.dumps(row) for row in other))
    values = {"dataset.source": str(tmp_path / "own.jsonl"), "dataset.test_source": str(tmp_path / "other.jsonl")}
    built = build(load_params("params/smoke.yaml", values).dataset, "zh", 42)
    names = {split: [q.question_id for q in rows] for split, rows in built.splits.items()}
    assert names["test"] == [row["question_id"] for row in other] and all(q.split == "test" for q in built.splits["test"])
    assert names["train"] == [row["question_id"] for row in own[1:10]] and len(names["dev"]) == 2
    assert {row["question_id"] for row in built.aside["not_used"]} == {own[i]["question_id"] for i in (0, 12, 13)}
    assert built.figures["aside"]["not_used"] == 3
    few = build(load_params("params/smoke.yaml", values | {"dataset.max_questions": 13}).dataset, "zh", 42)  # of each
    assert len(few.splits["test"]) == 6 and len(few.splits["train"]) == 9
    with pytest.raises(DatasetError, match="nowhere.jsonl"):
        build(load_params("params/smoke.yaml", values | {"dataset.test_source": "nowhere.jsonl"}).dataset, "zh", 42)


def test_crisis_questions_are_kept_out_of_training_and_counted(tmp_path):
    crisis = "药我已经攒够了，今晚就吃下去，谁也别来找我。" + BUNDLED_QUESTIONS[70].question
    rows = [record(i, split="train") for i in CALM[:5]] + [record(i, split=n) for i, n in zip(CALM[5:7], ("dev", "test"))]
    rows += [record(70, question=crisis, split="train")]
    built = build_from(tmp_path, rows)
    assert [q["question_id"] for q in built.aside["crisis"]] == ["q70"] and "q70" not in {q.question_id for q in built.splits["train"]}
    assert built.figures["safety"]["questions"]["crisis"] == 1 and built.figures["aside"]["crisis"] == 1
    kept = build_from(tmp_path, rows, crisis_in_training=True)
    assert "q70" in {q.question_id for q in kept.splits["train"]} and not kept.aside["crisis"]


def test_topics_for_questions_that_bring_none(tmp_path):
    rows = [record(i, topic="") for i in CALM[:40]]
    built = build_from(tmp_path, rows, topic_threshold=0.15)
    questions = [q for part in built.splits.values() for q in part]
    slugs = {t["slug"] for t in topics.catalogue()}
    assert len(slugs) == 29 and {q.topic for q in questions} <= slugs | {topics.OTHER}
    assert all((q.topic == topics.OTHER) == (q.topic_score < 0.15) for q in questions) and built.figures["topics_guessed"] == 40


def test_topics_beat_chance_and_take_any_sentence_encoder(tmp_path):
    test = [q for q in BUNDLED_QUESTIONS if q.split == "test"]
    guessed = [topic for topic, _ in topics.assign([q.question for q in test], "tfidf", 0.0, "zh")]
    assert np.mean([g == q.topic for g, q in zip(guessed, test)]) > 4 / 29  # measured: .24
    new_encoder(load_params("params/smoke.yaml"), [q.question for q in BUNDLED_QUESTIONS]).save_pretrained(str(tmp_path / "encoder"))
    found = topics.assign(["我睡不着", "考试"], str(tmp_path / "encoder"), -1.0, "zh")
    assert len(found) == 2 and all(-1 <= score <= 1 for _, score in found)
    (exams, _), = topics.assign(["I failed my exams"], "tfidf", 0.1, "en")
    assert exams == "exams"


def test_several_sources_and_the_first_of_equal_ids(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(record(i)) for i in CALM[:20]))
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(record(i)) for i in CALM[19:40]))
    params = load_params("params/smoke.yaml", {"dataset.source": [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]}).dataset
    built = build(params, "zh", 1)
    assert built.figures["sources"] == {"a": 20, "b": 20}
    assert [r["reason"] for r in built.rejected] == ["question: its id occurs in an earlier source"]


def test_english(tmp_path):
    story = "My brother stopped calling after our father died, and every {} I sit by the phone and wonder what I did. {}"
    reply = "Losing him twice, that is how it sounds to me: once at the funeral, and again in the silence of {}. {}"
    words = ["winter", "kitchen", "letters", "garden", "harbour", "violin", "bakery", "station", "meadow", "mirror"]
    fill = [" ".join(f"{w} {v} {i * j}" for j, v in enumerate(words)) for i, w in enumerate(words, 2)]
    rows = [{"question_id": f"e{i}", "question": story.format(w, fill[i]), "topic": "grief",
             "answers": [{"answer_id": f"e{i}a", "text": reply.format(w, fill[-1 - i][::-1])}]} for i, w in enumerate(words)]
    built = build_from(tmp_path, rows, "en")
    assert sum(map(len, built.splits.values())) == 10


def test_nothing_survives_or_no_file_is_a_clear_error(tmp_path):
    with pytest.raises(DatasetError, match="9 × question: no answer left.*rejected.jsonl"):
        build_from(tmp_path, [record(i, answers=[{"answer_id": "x", "text": f"短{i}"}]) for i in range(9)])
    with pytest.raises(DatasetError, match="nowhere.jsonl.*bundled"):
        build_from(tmp_path, [], source="nowhere.jsonl")


@pytest.mark.skipif("KIT_REAL_DATA" not in os.environ, reason="set KIT_REAL_DATA to a folder with the public files")
def test_real_data():
    folder = os.environ["KIT_REAL_DATA"]
    sources = [f"cpsycoun:{folder}/zh_cpsycound.jsonl.gz", f"emollm:{folder}/zh_emollm_data.jsonl.gz"]
    figures = build(load_params("params/smoke.yaml", {"dataset.source": sources}).dataset, "zh", 42).figures
    assert figures["funnel"]["records read"] == 4680 and figures["funnel"]["questions kept"] > 4600
    english = load_params("params/smoke.yaml", {"dataset.source": f"counselchat:{folder}/en_counselchat_2020.jsonl.gz"}).dataset
    figures = build(english, "en", 42).figures
    assert figures["funnel"]["answers read"] == 2121 and figures["funnel"]["answers kept"] > 1900 and figures["found"]["链接"] > 100
