"""The reward probes: what each text is, and that their shares are those of the cosines."""

import numpy as np
import pytest

from empathy_lib import BUNDLED, probes
from empathy_lib.schema import Answer, Question, read_jsonl, read_questions
from test_rewards import Words

TEST = [q for q in read_questions(BUNDLED / "questions.jsonl")[0] if q.split == "test"]


def test_what_each_probe_is():
    tried = probes.texts(TEST, {TEST[0].topic: "她很累。"}, "zh")
    assert all(len(texts) == len(TEST) for texts in tried.values()) and len(tried) == 12
    own = [q.answers[0].text for q in TEST]
    assert not "".join(tried["empty"]) and "".join(tried["white_space"]) and not "".join(tried["white_space"]).strip()
    assert tried["question_copied"] == [q.question for q in TEST] and tried["anothers_answer"][0] == own[1]
    assert all(text == 3 * answer for text, answer in zip(tried["repeated_thrice"], own))
    assert all(text.startswith(answer) and len(text) == 3 * len(answer) for text, answer in zip(tried["padded"], own))
    assert all(text.startswith("她很累。") and text.endswith(answer) for text, answer in zip(tried["chain_pasted"], own))
    changed = [text != answer for text, answer in zip(tried["negated"], own)]
    assert np.mean(changed) > 0.9
    assert all(len(set(tried[name])) == 1 for name in ("platitude", "injection", "other_language"))
    assert len(set(tried["topic_repeated"])) > 5
    assert tried["other_language"][0].isascii() and not probes.texts(TEST[:2], {}, "en")["other_language"][0].isascii()


def test_negation_turns_a_verdict_round_and_back():
    q = [Question(question_id="1", question="问", topic="x", answers=[Answer(answer_id="1", text="你可以哭，不会没用。")])]
    assert probes.texts(q, {}, "zh")["negated"] == ["你不可以哭，会没用。"]

    def negated(text, language):
        answer = Answer(answer_id="1", text=text)
        return probes.texts([q[0].model_copy(update={"answers": [answer]})], {}, language)["negated"][0]

    assert negated("你不需要道歉，这不可能是你的功能。", "zh") == "你需要道歉，这可能是你的功能。"
    assert negated("This is hard, and significant. You can rest.", "en") == "This is not hard, and significant. You cannot rest."


def test_probes_are_written_apart_from_the_training_negatives():
    """No run of 12 characters is shared."""
    known = "\n".join(row["text"] for row in read_jsonl(BUNDLED / "negatives.jsonl"))
    tried = probes.texts(TEST[:1], {}, "zh")
    filler = tried["padded"][0][len(TEST[0].answers[0].text):]
    for text in (tried["platitude"][0], tried["injection"][0], filler):
        assert not [text[i:i + 12] for i in range(len(text) - 11) if text[i:i + 12] in known]


def test_measure_by_hand():
    questions = [Question(question_id=str(i), question="累", topic="x", answers=[Answer(answer_id="a", text=text)])
                 for i, text in enumerate(["累", "累困", "困", "困"])]
    found = probes.measure(Words(), questions, {"copied": ["累"] * 4, "half": ["累困"] * 4, "mixed": ["困", "困", "累", "累"]}, 0.8)
    median = np.median([1, 0.5**0.5, 0, 0])
    assert found["real"]["above_T"]["value"] == 0.25 and found["real"]["median_cosine"] == pytest.approx(median)
    assert found["copied"]["above_T"]["value"] == 1 and found["half"]["above_T"]["value"] == 0
    assert found["half"]["above_median"]["value"] == 1 and found["mixed"]["above_median"] ["value"] == 0.5
    low, high = found["mixed"]["above_T"]["ci95"]
    assert low < 0.5 < high and found["mixed"]["above_T"]["n"] == 4
