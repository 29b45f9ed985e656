import itertools
import json
import math
import random
import subprocess
import sys

import joblib
import numpy as np
import pytest
from nltk.stem.api import StemmerI
from nltk.translate.bleu_score import sentence_bleu
from nltk.translate.meteor_score import meteor_score
from rouge_chinese import Rouge
from rouge_score.rouge_scorer import RougeScorer

from empathy_lib import BUNDLED, metrics

ODD = ["我我很累", "PPT改到半夜，hold不住了……", "ＯＫ，Ｏｋ？", "“还好吗？”她问。“不好！”", "1", "、。"]


class Split:
    """A tokenizer for rouge_score."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def tokenize(self, text):
        return metrics.tokenize(text, self.tokenizer)


class Unstemmed(StemmerI):
    def stem(self, token):
        return token


class NoWordNet:
    def synsets(self, word):
        return []


def samples(n=40):
    """Real answers, cut to the lengths that the slow libraries bear, with 1 to 3 references."""
    lines, rng = (BUNDLED / "questions.jsonl").read_text(encoding="utf-8").splitlines(), random.Random(3)
    answers = [answer["text"] for line in lines for answer in json.loads(line)["answers"]]
    texts = [answer[:rng.randint(5, 120)] for answer in rng.sample(answers, 40)] + ODD
    return [(rng.choice(texts), rng.sample(texts, rng.randint(1, 3))) for _ in range(n)]


@pytest.mark.parametrize("tokenizer", ["char", "jieba"])
def test_same_as_the_libraries_where_definitions_agree(tokenizer):
    # Where they do not: rouge_score keeps only [a-z0-9] unless it is given a tokenizer. rouge-chinese adds 1e-8 to the
    # sum p + r, so that its f is lower by up to 5e-9, and refuses empty texts; its p and r are the same.
    rouge, chinese = RougeScorer(["rougeL"], tokenizer=Split(tokenizer)), Rouge(metrics=["rouge-l"])
    pairs = samples()
    got = metrics.score_samples(*zip(*pairs), tokenizer)
    for i, (prediction, references) in enumerate(pairs):
        p, refs = metrics.tokenize(prediction, tokenizer), [metrics.tokenize(r, tokenizer) for r in references]
        theirs = [chinese.get_scores(" ".join(p), " ".join(r))[0]["rouge-l"] for r in refs]
        exact = max(2 * s["p"] * s["r"] / (s["p"] + s["r"]) if s["p"] else 0.0 for s in theirs)
        assert got["bleu_1"][i] == pytest.approx(sentence_bleu(refs, p, weights=(1,)), abs=1e-9)
        assert got["meteor"][i] == pytest.approx(meteor_score(refs, p, stemmer=Unstemmed(), wordnet=NoWordNet()), abs=1e-9)
        assert got["rouge_l"][i] == pytest.approx(rouge.score_multi(references, prediction)["rougeL"].fmeasure, abs=1e-9)
        assert got["rouge_l"][i] == pytest.approx(exact, abs=1e-9)
        assert got["rouge_l"][i] == pytest.approx(max(s["f"] for s in theirs), abs=6e-9)


def test_english_is_split_as_rouge_score_splits_it():
    rouge = RougeScorer(["rougeL"], use_stemmer=False)
    for prediction, references in [("I’m re-reading Ch. 3 -- naïve?", ["im re reading ch 3, NAIVE", "K and k"]), ("K", ["k"])]:
        want = rouge.score_multi(references, prediction)["rougeL"].fmeasure
        assert metrics.score([prediction], [references], "en")["rouge_l"] == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("prediction, references, tokenizer, bleu, rouge, meteor", [
    ("我我很累", ["我真的很累了", "今天太难过"], "char", .75 * math.exp(1 - 5 / 4), .6, None),      # the closest length is 5
    ("我我很累", ["我累啊", "今天太难过"], "char", .5, 4 / 7, None),                               # 3 and 5: the shorter
    ("很累我", ["我很累"], "char", 1, 2 / 3, 1 - .5 * (2 / 3) ** 3),                              # two chunks of three
    ("你真的很累", ["好", "你真的很累"], "char", 1, 1, 1 - .5 * (1 / 5) ** 3),                      # the better reference
    ("Ａ", ["ａ"], "char", 0, 0, .5),                                                          # only METEOR ignores case
    ("ok", ["你好", "ok fine yes"], "ascii", 1, .5, .5 * 10 * (1 / 3) / (9 + 1 / 3)),            # the empty one is closest
    ("好", ["你好"], "ascii", 0, 0, 0), ("ok", ["你好"], "ascii", 0, 0, 0), ("", ["好"], "char", 0, 0, 0),
    ("cats", ["cat"], "en", 0, 0, 0), (" \n", ["好"], "jieba", 0, 0, 0), ("好", [""], "char", 0, 0, 0)])
def test_by_hand(prediction, references, tokenizer, bleu, rouge, meteor):
    got = metrics.score([prediction], [references], tokenizer)
    assert got["bleu_1"] == pytest.approx(bleu) and got["rouge_l"] == pytest.approx(rouge)
    assert meteor is None or got["meteor"] == pytest.approx(meteor)
    assert got["navg"] == pytest.approx(sum(got[k] for k in ("bleu_1", "rouge_l", "meteor", "distinct_1")) / 4)


def test_means_and_distinct_1_over_all_predictions():
    got = metrics.score(["我我很累", "我累", ""], [["我我很累"], ["开心"], ["好"]], "char")
    assert got["bleu_1"] == got["rouge_l"] == pytest.approx(1 / 3)
    assert got["distinct_1"] == 3 / 6
    assert set(metrics.score([""], [["好"]]).values()) == {0.0}


@pytest.mark.parametrize("text, char, runs", [
    ("老板让我改PPT 3遍，ｶﾅ…😀", [*"老板让我改", "ppt", "3", *"遍，ｶﾅ…😀"], ["ppt", "3"]),
    ("Covid-19有3.5万　例\u00a0\n", ["covid", "-", "19", "有", "3", ".", "5", "万", "例"], ["covid", "19", "3", "5"]),
    ("ＡＢ１", ["Ａ", "Ｂ", "１"], []),                                   # no normalisation: full width stays, one by one
    ("cafe\u0301 Café", ["cafe", "\u0301", "caf", "é"], ["cafe", "caf"]),
    ("👩🏽‍⚕️", ["👩", "🏽", "\u200d", "⚕", "\ufe0f"], []), ("", [], [])])
def test_tokenizers(text, char, runs):
    assert metrics.tokenize(text, "char") == char
    assert metrics.tokenize(text, "ascii") == runs == metrics.tokenize(text, "en")
    assert "".join(metrics.tokenize(text, "jieba")) == "".join(text.split()).lower()


@pytest.mark.parametrize("predictions, references, tokenizer, message", [
    (["a", "b"], [["a"]], "char", "2 predictions and 1 lists"), ([], [], "char", "0 predictions"),
    (["a", "b"], [["a"], []], "char", "prediction 1 has no reference"), (["a"], [None], "char", "prediction 0 has no ref"),
    (["a", None], [["a"], ["a"]], "char", "prediction 1 is None, not a text"),
    (["a"], ["abc"], "char", "prediction 0 are 'abc': give a list"), (["a"], [["a", 3]], "char", "give a list of texts"),
    (["a"], [["a"]], "bpe", "unknown tokenizer 'bpe': one of char, jieba")])
def test_bad_input(predictions, references, tokenizer, message):
    with pytest.raises(ValueError, match=message):
        metrics.score(predictions, references, tokenizer)


def test_the_result_does_not_depend_on_the_processes(monkeypatch):
    started, parallel = [], joblib.Parallel
    monkeypatch.setattr(joblib, "Parallel", lambda n_jobs: started.append(n_jobs) or parallel(n_jobs=n_jobs))
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    alone = [metrics.measure(*zip(*samples()), tokenizer) for tokenizer in ("char", "jieba")]
    monkeypatch.setattr(metrics, "_CHUNK", 7)
    assert [metrics.measure(*zip(*samples()), tokenizer) for tokenizer in ("char", "jieba")] == alone
    assert started == [1, 1, 2, 2]


def test_import_is_light():
    code = "import sys, empathy_lib.metrics; print({'torch', 'nltk', 'scipy', 'jieba', 'joblib'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_copies():
    assert metrics.longest_copy("今天太难过了吧", "他说难过了吧，太难过") == 4
    assert metrics.longest_copy("", "abc") == metrics.longest_copy("xyz", "abc") == 0
    said, corpus = ["我 很难过\n了", "好的"], ["他很难过", "难过了吧", "好"]
    copied = metrics.copied_ngrams(said, corpus, 3)
    assert copied == {"很难过", "难过了"} == {g for t in corpus for g in metrics.ngrams(t, 3)} & set(metrics.ngrams(said[0], 3))
    assert [metrics.copied_share(text, copied, 3) for text in said] == [pytest.approx(2 / 3), 0.0]
    assert metrics.copied_share(corpus[1], copied, 3) == 0.5


def test_bootstrap_resamples_whole_groups():
    low, high = metrics.bootstrap([[0.0, 0.0]] * 10 + [[1.0, 1.0]] * 10)
    single = metrics.bootstrap([[v] for v in [0.0] * 20 + [1.0] * 20])
    assert low < 0.5 < high and high - low > single[1] - single[0]
    assert metrics.bootstrap([[0.0], [1.0]], seed=4) == metrics.bootstrap([[0.0], [1.0]], seed=4)
    assert metrics.bootstrap([[0.0]] * 50 + [[1.0] * 9] * 50)[0] > 0.7  # a mean over samples (.9), not over groups (.5)


def test_compare_counts_every_way_to_exchange_the_systems():
    rng = np.random.default_rng(2)
    a, b = [list(rng.random(n)) for n in (3, 1, 2, 4, 2, 1)], [list(rng.random(n)) for n in (1, 1, 2, 1, 3, 2)]
    d = np.array([np.mean(x) - np.mean(y) for x, y in zip(a, b)])
    flipped = np.array([(d * signs).mean() for signs in itertools.product((1, -1), repeat=len(d))])
    got = metrics.compare(a, b)
    assert got["value"] == pytest.approx(d.mean()) and got["questions"] == 6
    assert got["p"] == pytest.approx((abs(flipped) > abs(d.mean()) - 1e-12).mean())
    assert got["ci95"][0] < got["value"] < got["ci95"][1] and metrics.compare(b, a)["value"] == pytest.approx(-d.mean())


@pytest.mark.parametrize("a, b, value, p", [
    ([[1], [1]], [[0], [0]], 1, .5), ([[.3], [.3]], [[.3], [.3]], 0, 1), ([[0]] * 50, [[0]] * 50, 0, 1),
    ([[1, 0]] * 200, [[0, 0]] * 200, .5, 2 / 10000), ([[0], [1]] * 40, [[1], [0]] * 40, 0, 1)])
def test_compare_at_the_edges(a, b, value, p):
    got = metrics.compare(a, b)
    assert (got["value"], got["p"]) == (value, pytest.approx(p)) and got == metrics.compare(a, b)


def test_compare_is_seeded():
    many = [[x] for x in np.random.default_rng(0).normal(0.1, 1, 60)]
    first, again, other = [metrics.compare(many, [[0]] * 60, seed) for seed in (3, 3, 4)]
    assert first == again and .01 < first["p"] != other["p"] and first["ci95"] != other["ci95"]


@pytest.mark.parametrize("a, b, message", [([[1]], [[1]], "1 questions"), ([[1], [1]], [[1]], "2 questions .* and 1"),
                                           ([[1], []], [[1], [1]], "question 1 has no value")])
def test_compare_bad_input(a, b, message):
    with pytest.raises(ValueError, match=message):
        metrics.compare(a, b)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A SentenceTransformer over a tiny BERT with random weights."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel, BertTokenizerFast
    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"你最近真的很累，先好睡一觉吧。我"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                         intermediate_size=64)).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return SentenceTransformer(str(folder), device="cpu")


def test_embedding_similarity_is_bertscore(encoder):
    def vectors(text):
        found = np.asarray(encoder.encode(text, output_value="token_embeddings"))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def f1(prediction, reference):
        p, r = vectors(prediction), vectors(reference)
        precision = np.mean([max(x @ y for y in r) for x in p[1:-1]])  # without [CLS] and [SEP], which may be matched
        recall = np.mean([max(x @ y for x in p) for y in r[1:-1]])
        return 2 * precision * recall / (precision + recall)

    said, human = ["你最近真的很累，先好好睡一觉吧。", "睡好"], [["我累", "先睡觉吧，你真的很累。"], ["我不认识这个字", "睡一觉"]]
    got = metrics.embedding_similarity(said, human, encoder)
    assert got == pytest.approx([max(f1(p, r) for r in refs) for p, refs in zip(said, human)], abs=1e-5)
    same = metrics.embedding_similarity([*said, ""], [[*human[0], said[0]], [said[1]], ["好"]], encoder)
    assert same == pytest.approx([1, 1, 0])
    assert max(got) < 0.999


def test_embedding_similarity_refuses_what_has_no_context(encoder):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    static = SentenceTransformer(modules=[StaticEmbedding(encoder.tokenizer, embedding_dim=4)], device="cpu")
    with pytest.raises(ValueError, match="StaticEmbedding has no contextual"):
        metrics.embedding_similarity(["好"], [["好"]], static)


def test_distinct_by_question_is_the_jackknife():
    values = metrics.distinct_by_question(["甲乙", "乙丙丙", "甲乙"], ["p", "q", "p"], "char")
    whole, without_p, without_q = 3 / 7, 2 / 3, 2 / 4
    p, q = 2 * whole - without_p, 2 * whole - without_q
    shift = whole - (p + q) / 2
    assert np.allclose(values, [p + shift, q + shift, p + shift]) and abs((values[0] + values[1]) / 2 - whole) < 1e-12
    assert metrics.distinct_by_question(["", ""], ["p", "q"], "char").tolist() == [0, 0]
