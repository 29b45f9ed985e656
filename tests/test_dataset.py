import json
import os
from pathlib import Path

import pytest

from empathy_lib.anonymise import anonymise
from empathy_lib.cleaning import clean, noise
from empathy_lib.dataset import DatasetError, build
from empathy_lib.params import load_params
from empathy_lib.schema import SPLITS

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


def test_clean():
    assert clean("<p>你好&nbsp;世界</p><br/>第二段&amp;<b>粗</b>") == "你好 世界\n第二段&粗"
    assert clean("ＡＢ１２，好。。。。！！！！\u200b\x07") == "AB12，好。！"
    assert clean("我……不知道") == "我……不知道"
    assert clean("3 < 5 而且 x > 2") == "3 < 5 而且 x > 2"


def test_noise():
    assert noise("需要的加我微信领取资料") == "advertising"
    assert noise("1234567890!!!!####$$$$") == "gibberish"
    assert noise("好难过" * 30) == "repetition"
    assert noise("昨天她在微信里跟我说，以后别联系了。") is None


def build_from(tmp_path: Path, records: list, **overrides):
    (tmp_path / "q.jsonl").write_text("\n".join(r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records))
    params = load_params("params/smoke.yaml", {"dataset": {"source": str(tmp_path / "q.jsonl")} | overrides}).dataset
    return build(params, seed=1)


def record(i, **changes):
    return {"question_id": f"q{i}", "question": f"第{i}天，我还是睡不着，翻来覆去想那句话。", "topic": "ab"[i % 2],
            "answers": [{"answer_id": f"q{i}-a", "text": LONG.format(i)}]} | changes


def test_build_keeps_drops_and_accounts_for_everything(tmp_path):
    good = [record(i) for i in range(40)]
    dirty = [
        record(50, question="我电话13912345678，晚上老是睡不着，想找个人说说话。"),
        record(51, answers=[{"answer_id": "x", "text": "太短"}]),
        record(52, answers=[{"answer_id": "x", "text": LONG.format("想聊就加我微信abc12345")}]),
        record(53, question=good[0]["question"]),
        "not json",
    ]
    splits, rejected, figures = build_from(tmp_path, good + dirty)
    kept = {q.question_id: q for rows in splits.values() for q in rows}
    assert set(kept) == {f"q{i}" for i in range(40)} | {"q50"}
    assert "[电话]" in kept["q50"].question and "139" not in json.dumps([q.model_dump() for q in kept.values()])
    reasons = {r.get("answer_id") or r.get("question_id") or r["line"]: r["reason"] for r in rejected}
    assert reasons["q51"] == reasons["q52"] == "question: no answer left"
    assert reasons["q53"] == "question: exact duplicate" and 45 in reasons
    assert figures["funnel"]["lines read"] == 45 and figures["funnel"]["questions kept"] == 41
    assert figures["found"]["电话"] == 1
    for name, share in zip(("dev", "test"), (0.1, 0.2)):
        assert len(splits[name]) == pytest.approx(41 * share, abs=2)
    assert all(q.split == name for name in SPLITS for q in splits[name])
    assert {q.topic for q in splits["test"]} == {"a", "b"}  # stratified
    again, _, _ = build_from(tmp_path, good + dirty)
    assert again == splits


def test_nothing_survives_or_no_file_is_a_clear_error(tmp_path):
    with pytest.raises(DatasetError, match="rejected.jsonl"):
        build_from(tmp_path, [record(i, answers=[{"answer_id": "x", "text": "短"}]) for i in range(9)])
    with pytest.raises(DatasetError, match="nowhere.jsonl.*bundled"):
        build_from(tmp_path, [], source="nowhere.jsonl")


def test_cpsycoun_adapter(tmp_path):
    turns = [{"role": "client", "content": "我睡不着"}, {"role": "counselor", "content": LONG.format("嗯")},
             {"role": "client", "content": "{}"}]
    rows = [json.dumps({"source_id": f"c{i}", "turns": turns[:2] + [turns[2] | {"content": f"第{i}次了"}]}) for i in range(20)]
    rows += ['{"source_id": "x", "turns": []}', '{"turns": 3}']
    (tmp_path / "d.jsonl").write_text("\n".join(rows))
    params = load_params("params/smoke.yaml", {"dataset.source": f"cpsycoun:{tmp_path}/d.jsonl"}).dataset
    with pytest.raises(DatasetError):  # twenty times the same counsellor text: exact duplicates
        build(params, 1)
    rows = [row.replace(json.dumps(LONG.format("嗯"))[1:-1], json.dumps(LONG.format(i))[1:-1]) for i, row in enumerate(rows)]
    (tmp_path / "d.jsonl").write_text("\n".join(rows))
    splits, rejected, _ = build(params, 1)
    assert sum(map(len, splits.values())) == 20 and len(rejected) == 2
    assert splits["train"][0].question.startswith("我睡不着\n第")


@pytest.mark.skipif("KIT_REAL_DATA" not in os.environ, reason="set KIT_REAL_DATA to a folder with zh_cpsycound.jsonl.gz")
def test_real_dialogues():
    path = Path(os.environ["KIT_REAL_DATA"], "zh_cpsycound.jsonl.gz")
    splits, rejected, figures = build(load_params("params/smoke.yaml", {"dataset.source": f"cpsycoun:{path}"}).dataset, 42)
    assert figures["funnel"]["lines read"] == 3084 and figures["funnel"]["questions kept"] > 2900
