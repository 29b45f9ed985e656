import random

import pytest
from nltk.translate.bleu_score import sentence_bleu
from rouge_score.rouge_scorer import RougeScorer

from empathy_lib import metrics

TEXTS = ["你最近真的很累，先好好睡一觉吧。", "听得出来你很累，今晚先睡个好觉，好吗？", "我我很累", "PPT改到半夜，难怪你想哭。",
         "换谁都委屈", "他说了那句话以后，你是不是一直在想“我不够好”？", "先不急着原谅，hold住自己就行。"]


class Split:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def tokenize(self, text):
        return metrics.tokenize(text, self.tokenizer)


def samples(n=60):
    rng = random.Random(3)
    return [(rng.choice(TEXTS), rng.sample(TEXTS, rng.randint(1, 3))) for _ in range(n)]


@pytest.mark.parametrize("tokenizer", ["char", "jieba"])
def test_same_as_the_libraries_where_definitions_agree(tokenizer):
    rouge = RougeScorer(["rougeL"], tokenizer=Split(tokenizer))
    for prediction, references in samples():
        got = metrics.score([prediction], [references], tokenizer)
        cut = [metrics.tokenize(r, tokenizer) for r in references]
        assert got["bleu_1"] == pytest.approx(sentence_bleu(cut, metrics.tokenize(prediction, tokenizer), weights=(1,)), abs=1e-9)
        assert got["rouge_l"] == pytest.approx(max(rouge.score(r, prediction)["rougeL"].fmeasure for r in references), abs=1e-9)


def test_by_hand():
    got = metrics.score(["我我很累"], [["我真的很累了", "今天太难过"]], "char")
    assert got["bleu_1"] == pytest.approx(0.75 * 2.718281828459045 ** (1 - 5 / 4))  # closest length 5; ties: the shorter
    assert got["rouge_l"] == pytest.approx(0.6)
    assert got["distinct_1"] == 0.75
    assert got["navg"] == pytest.approx(sum(got[k] for k in ("bleu_1", "rouge_l", "meteor", "distinct_1")) / 4)
    same = metrics.score(["你真的很累"], [["你真的很累"]], "char")
    assert same["bleu_1"] == same["rouge_l"] == 1 and same["meteor"] == pytest.approx(1 - 0.5 * (1 / 5) ** 3)


def test_tokenizers():
    text = "老板让我改PPT 3遍，ｶﾅ…😀"
    assert metrics.tokenize(text, "char") == list("老板让我改") + ["ppt", "3"] + list("遍，ｶﾅ…😀")
    assert metrics.tokenize(text, "ascii") == ["ppt", "3"] == metrics.tokenize(text, "en")
    assert "".join(metrics.tokenize(text, "jieba")) == text.lower().replace(" ", "")
    with pytest.raises(ValueError, match="bpe.*char"):
        metrics.tokenize(text, "bpe")


def test_empty_and_bad_input():
    empty = metrics.score([""], [["好"]], "char")
    assert set(empty.values()) == {0.0}
    assert metrics.score(["好"], [["你好"]], "ascii")["navg"] == 0.0
    with pytest.raises(ValueError, match="2 predictions and 1"):
        metrics.score(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="prediction 1 has no reference"):
        metrics.score(["a", "b"], [["a"], []])
    with pytest.raises(ValueError):
        metrics.score([], [])


def test_longest_copy():
    assert metrics.longest_copy("今天太难过了吧", "他说难过了吧，太难过") == 4
    assert metrics.longest_copy("", "abc") == metrics.longest_copy("xyz", "abc") == 0


def test_bootstrap_resamples_whole_groups():
    low, high = metrics.bootstrap([[0.0, 0.0]] * 10 + [[1.0, 1.0]] * 10)
    single = metrics.bootstrap([[v] for v in [0.0] * 20 + [1.0] * 20])
    assert low < 0.5 < high and high - low > single[1] - single[0]
    assert metrics.bootstrap([[0.0], [1.0]], seed=4) == metrics.bootstrap([[0.0], [1.0]], seed=4)
