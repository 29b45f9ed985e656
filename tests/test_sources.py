"""Each source in its own layout, read from a file written here in that layout."""

import gzip
import json
import os
from pathlib import Path

import pytest

from empathy_lib.schema import Answer
from empathy_lib.sources import SourceError, read

LINE = {"question_id": "a", "question": "我睡不着", "topic": "sleep", "answers": [{"answer_id": "a1", "text": "嗯"}]}


def write(path: Path, *records, wrap: bool = False) -> str:
    text = json.dumps(records, ensure_ascii=False, indent=1) if wrap else "\n".join(
        r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_our_schema_as_lines_gzip_csv_and_parquet(tmp_path):
    import datasets
    jsonl = write(tmp_path / "q.jsonl", LINE, LINE | {"question_id": "b"}, "[1, 2]")
    Path(tmp_path / "q.jsonl.gz").write_bytes(gzip.compress(Path(jsonl).read_bytes()))
    datasets.Dataset.from_list([LINE, LINE | {"question_id": "b"}]).to_parquet(str(tmp_path / "q.parquet"))
    (tmp_path / "q.csv").write_text("\ufeffquestion_id,question,topic,answer_id,text\na,我睡不着,sleep,a1,嗯\nb,我睡不着,sleep,a1,嗯\n"
                                    'b,我睡不着,sleep,a2,"第一行\n第二行"\n7,"NA",sleep,x1,001\n8,没人回,,,\n', encoding="utf-8")
    lines = read(jsonl)
    assert [q.model_dump(exclude_none=True) for q in lines.questions] == [q | {"source": "q"} for q in (LINE, LINE | {"question_id": "b"})]
    assert [r["line"] for r in lines.rejected] == [3]
    assert read(f"{jsonl}.gz").questions == lines.questions and read(str(tmp_path / "q.parquet")).questions == lines.questions
    table = read(str(tmp_path / "q.csv"))
    assert [(q.question_id, q.question, [a.text for a in q.answers]) for q in table.questions] == [
        ("a", "我睡不着", ["嗯"]), ("b", "我睡不着", ["嗯", "第一行\n第二行"]), ("7", "NA", ["001"])]  # text stays text
    assert len(table.rejected) == 1 and "topic" in table.rejected[0]["reason"]
    assert len(read("bundled").questions) == 290


def test_psyqa_as_released(tmp_path):
    records = [{"questionID": 7, "question": "总是睡不着", "description": "两个月了", "keywords": "情绪,睡眠",
                "answers": [{"answer_text": "先别急", "has_label": False}, {"answer_text": "我也有过", "labels_sequence": []}]},
               {"questionID": 8, "question": "没人回答的", "description": "", "keywords": "", "answers": []},
               {"questionID": 9, "question": "答案坏了", "description": "", "keywords": "", "answers": ["文字"]},
               {"questionID": 10, "question": "题目", "description": 3, "keywords": "", "answers": []}]
    result = read("psyqa:" + write(tmp_path / "PsyQA_full.json", *records, wrap=True))
    (question,) = result.questions
    assert question.question_id == "psyqa-7" and question.question == "总是睡不着\n两个月了" and question.topic == "情绪"
    assert question.title == "总是睡不着" and question.source == "psyqa"
    assert question.answers == [Answer(answer_id="7-1", text="先别急"), Answer(answer_id="7-2", text="我也有过")]
    assert [r["question_id"] for r in result.unanswered] == ["psyqa-8"]
    assert [r["line"] for r in result.rejected] == [3, 4] and "坏" not in json.dumps(result.rejected, ensure_ascii=False)


def test_dialogues(tmp_path):
    turns = [{"role": "client", "content": "我睡不着"}, {"role": "counselor", "content": "多久了"}, {"role": "client", "content": "两个月"}]
    result = read("cpsycoun:" + write(tmp_path / "c.jsonl", {"source_id": "c1", "turns": turns}, {"source_id": "c2", "turns": turns[:1]},
                                      {"source_id": "c3"}, "nonsense"))
    assert [(q.question_id, q.question, q.answers[0].text) for q in result.questions] == [("c1", "我睡不着\n两个月", "多久了")]
    assert [r["question_id"] for r in result.unanswered] == ["c2"] and [r["line"] for r in result.rejected] == [3, 4]
    talk = {"conversation": [{"system": "你是", "input": "我睡不着", "output": "多久了"}, {"input": "两个月", "output": "嗯"}]}
    for file, wrap in (("e.jsonl", False), ("e.json", True)):
        (question,) = read("emollm:" + write(tmp_path / file, talk, wrap=wrap)).questions
        assert question.question == "我睡不着\n两个月" and question.answers[0].text == "多久了\n嗯" and "你是" not in question.question


def test_counselchat_both_releases(tmp_path):
    row = {"questionID": "5", "questionTitle": "Can't sleep", "questionText": "For months.", "answerText": "Tell me more.", "upvotes": 3}
    old = read("counselchat:" + write(tmp_path / "2020.jsonl", row | {"topic": "anxiety"}, row | {"topic": "anxiety", "answerText": "Rest.", "upvotes": "1"}))
    (question,) = old.questions
    assert question.question == "Can't sleep\nFor months." and question.topic == "anxiety"
    assert [(a.answer_id, a.text, a.upvotes) for a in question.answers] == [
        ("counselchat-5-1", "Tell me more.", 3), ("counselchat-5-2", "Rest.", 1)]
    new = read("counselchat:" + write(tmp_path / "html.jsonl", row | {"topics": "Sleep Improvement,Anxiety", "answerText": "<p>Rest.</p>"},
                                      row | {"questionID": "6", "answerText": None}))
    assert new.questions[0].topic == "Sleep Improvement" and [r["question_id"] for r in new.unanswered] == ["counselchat-6"]


@pytest.mark.parametrize("name, data, says", [
    ("nowhere.jsonl", None, "nowhere.jsonl.*'bundled'.*'psyqa:<file>'"),
    ("psyqa:cut.json", b'[{"question": "a"', "cut.json: not a whole JSON list in UTF-8.*get the file again"),
    ("psyqa:gb.json", '[{"question": "中"}]'.encode("gb18030"), "gb.json: not a whole JSON list in UTF-8"),
    ("bad.parquet", b"PAR0", "bad.parquet: cannot be read as parquet"),
    ("bad.csv", 'question_id\n"中'.encode("gb18030"), "bad.csv: cannot be read as csv"),
])
def test_unreadable_sources_are_clear_errors(tmp_path, name, data, says):
    adapter, _, file = name.rpartition(":")
    if data is not None:
        (tmp_path / file).write_bytes(data)
        name = f"{adapter}{':' if adapter else ''}{tmp_path / file}"
    with pytest.raises(SourceError, match=says):
        read(name)


@pytest.mark.skipif("KIT_REAL_DATA" not in os.environ, reason="set KIT_REAL_DATA to a folder with the public files")
@pytest.mark.parametrize("source, questions, answers", [
    ("cpsycoun:zh_cpsycound", 3084, 3084), ("emollm:zh_emollm_data", 1596, 1596),
    ("counselchat:en_counselchat_2020", 813, 2121), ("counselchat:en_counselchat_html", 779, 1475)])
def test_real_files(source, questions, answers):
    adapter, _, file = source.partition(":")
    result = read(f"{adapter}:{Path(os.environ['KIT_REAL_DATA'], file)}.jsonl.gz")
    assert len(result.questions) == questions and sum(len(q.answers) for q in result.questions) == answers and not result.rejected
