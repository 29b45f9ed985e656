import gzip
import json

import pytest

from empathy_lib.schema import Question, read_jsonl, read_questions, write_atomic, write_json, write_jsonl

RECORD = {"question_id": "a", "question": "我睡不着", "topic": "sleep", "answers": [{"answer_id": "a1", "text": "嗯"}]}


def line(**changes):
    return json.dumps({k: v for k, v in (RECORD | changes).items() if v is not ...}, ensure_ascii=False)


def read(tmp_path, data: bytes, name="q.jsonl"):
    (tmp_path / name).write_bytes(data)
    return read_questions(tmp_path / name)


def test_good_lines_of_every_kind(tmp_path):
    data = ("\ufeff" + line() + "\r\n" + "\n" + line(question_id="b", extra=1, title="x") + "\n" + line(question_id="c")).encode()
    questions, rejected = read(tmp_path, data)
    assert [q.question_id for q in questions] == ["a", "b", "c"] and not rejected
    assert read(tmp_path, gzip.compress(data), "q.jsonl.gz")[0] == questions
    assert read(tmp_path, b"") == ([], [])


@pytest.mark.parametrize("bad, reason", [
    (line(topic=...), "topic"), (line(question=None), "question"), (line(question_id=7), "question_id"),
    (line(answers="嗯"), "answers"), (line(answers=[]), "answers"), (line(answers=["嗯"]), "answers.0"),
    (line(answers=[{"answer_id": "a1"}]), "answers.0.text"), (line(answers=[{"answer_id": 1, "text": "x"}]), "answer_id"),
    (line(split="all"), "split"), (line()[:-5], "JSON"), ("[1, 2]", "object"), ("nonsense", "JSON"),
    (line(), "occurs before"),
])
def test_bad_line_is_rejected_whole_with_reason_and_reading_goes_on(tmp_path, bad, reason):
    questions, rejected = read(tmp_path, "\n".join([line(), bad, line(question_id="z")]).encode())
    assert [q.question_id for q in questions] == ["a", "z"]
    assert len(rejected) == 1 and rejected[0]["file"] == "q.jsonl" and rejected[0]["line"] == 2
    assert reason in rejected[0]["reason"]
    assert "睡不着" not in rejected[0]["reason"]


def test_other_encoding_and_huge_line(tmp_path):
    huge = line(question_id="h", question="长" * 2_000_000)
    questions, rejected = read(tmp_path, line(question_id="gb").encode("gb18030") + b"\n" + huge.encode())
    assert [q.question_id for q in questions] == ["h"] and "UTF-8" in rejected[0]["reason"]


def test_write_is_atomic_and_reads_back(tmp_path):
    questions = [Question.model_validate(RECORD)]
    write_jsonl(tmp_path / "new" / "q.jsonl", questions)
    assert read_jsonl(tmp_path / "new" / "q.jsonl") == [RECORD]

    def broken():
        yield RECORD
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_jsonl(tmp_path / "new" / "q.jsonl", broken())
    assert read_questions(tmp_path / "new" / "q.jsonl")[0] == questions
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "new" / "q.jsonl", "x\ud800")
    assert read_questions(tmp_path / "new" / "q.jsonl")[0] == questions
    with pytest.raises(ValueError):
        write_json(tmp_path / "m.json", {"loss": float("nan")})
    assert not (tmp_path / "m.json").exists()
