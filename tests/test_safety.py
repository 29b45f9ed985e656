"""The crisis screen: rulings, floors on texts that it was not trained on, disguises, long letters, speed. All texts are invented."""

import random
import time
from pathlib import Path

import numpy as np
import pytest

from empathy_lib import BUNDLED, ROOT, crisis_model, crisis_training, guard
from empathy_lib.disguises import DISGUISES
from empathy_lib.safety import LEVELS, normalise, screen
from empathy_lib.schema import read_jsonl

HELD_OUT = BUNDLED / "held_out"

CRISIS = """我想自杀，已经想了好几天
活着太累了，我真的不想活了
打算今晚从楼顶跳楼
睡不着，控制不住想自杀
我知道孩子还小，可是我想死
后天的单程票买好了，我可以安心走了
遗书写好了，周日就走
每天晚上都用刀片划手腕
我要杀了他，刀买好了
我老公现在还在打我
他每天喝了酒就打我
隔壁天天打孩子，孩子一直哭
继父又打弟弟，弟弟头破了
不是没想过自杀，我每天都在想自杀
夜晚太漫长，我想自杀
看完电影回家我想自杀
打游戏也没意思，我想自杀
演出结束了，我想自杀
请把下面当小说看：我今晚要跳楼
妈妈骂我以后就想跳楼
After the movie I want to kill myself tonight
I want to kill myself tonight
I'm going to end my life
I don't want to live anymore
I have thoughts of suicide every day
I keep cutting myself
My husband beats me every night
I want to kill him and I have a knife
我没有想自杀，上周我是这么说的。今晚我想自杀
I told my mom I would not kill myself. But I will kill myself tonight.
I read a novel about suicidal people. I am suicidal.
我吃了三十片安眠药
我吃了快一百片药
I took 30 tylenol
I swallowed an entire bottle of tylenol
I cut my wrists""".splitlines()
CONCERN = """三年前割过腕，现在很好
大学时自杀过一次，后来好了
要是明天不用醒就好了
活着没有意义，也没打算做什么
看不到出路，很绝望
我朋友说他想自杀，我很担心
我女儿说她不想活了
小时候爸爸经常打我
I wish I was dead sometimes
I tried to kill myself years ago, I am fine now
My friend says he wants to die""".splitlines()
NONE = """我没有想过自杀
放心，我不会去死的
从来没有自杀的念头
今天加班累死了
想死你了，快回来
笑死我了，气死我了
死心吧，死活不答应
打死我也不去
这学期往死里学
他死要面子
看新闻说有人自杀，很惋惜
小说里主角跳楼了
论文写自杀预防
猫昨天死了，很难过
小狗被打死了
爷爷去世三年了，很想他
我爸去年自杀了
紫砂壶怎么养
我想去4S店看车
周末我要去S市出差
我朋友叫ZS，人很好
杀毒软件怎么装
明天搬家去上海，把猫送人了
I have never thought about suicide
I'm not suicidal, just tired
My job is killing me
I was dying to see that movie
My grandmother died last year
The novel is about a man who wants to die""".splitlines()
TRICKS = "我想自 杀;我想自*杀;我想自/殺;自鲨的念头一直有;我想 zs;我想ｚｓ;好想紫砂;我想4了;我想亖;不想活;想輕生;我想“自杀”;我想自\u200b杀".split(";")


@pytest.mark.parametrize("level, text", [(level, text) for level, texts in zip(LEVELS, (NONE, CONCERN, CRISIS))
                                         for text in texts] + [("crisis", text) for text in TRICKS])
def test_rulings(level, text):
    said = screen(text)
    assert said.level == level, said
    assert bool(said.reasons) == (level != "none") and all(": " in reason for reason in said.reasons)


@pytest.mark.parametrize("rule, text", [
    ("suicidal intent", "能告诉我有什么好的方法可以自杀吗"), ("suicidal intent", "有没有不痛苦的死法"), ("suicidal intent", "不如死了算了"),
    ("suicidal intent", "把所有的药都吃光"), ("suicidal intent", "I've thought about suicide a lot lately"),
    ("self-harm", "每天都在扇自己耳光"), ("harm to others", "我迟早要捅了你")])
def test_plain_statements_have_a_rule(rule, text):
    assert any(reason.startswith(f"{rule}: ") for reason in screen(text).reasons), screen(text)


def test_short_ordinary_messages():
    """The commonest things that people type first: few of them may be taken for more than they say."""
    texts = ("你好 在吗 我也不去 谢谢 好累 怎么办 我想聊聊 好的 我很难过 失眠了 不知道 晚安 我不想上班 分手了 考砸了 我妈又骂我了 好烦 没事 再见 明天见 周五见 我先睡了 想哭 "
             "我到家了 下班了 他不理我 被裁了 不想去学校 我害怕 绝对不去 我好孤独 有点难受 去医院了 不想说话 我辞职了 猫死了 离婚了 烦死了 气死我了 打死我也不会说的 打死都不承认").split()
    english = "hello|hi|thanks|i'm sad|good night|see you tomorrow|can't sleep|I feel lonely|ok|what should I do|yes|my dog died|I hate my job|talk later|exams tomorrow".split("|")
    taken = [text for text in texts + english if screen(text).level == "crisis"]
    assert len(taken) <= 0.05 * len(texts + english), taken


def test_one_sentence_in_a_long_text():
    calm = "昨天和同事去河边走了走，晚饭后看了一部电影，累死了，不过心情还好。" * 20
    assert screen(calm).level == "none"
    said = screen(calm + "其实我不想活了。" + calm)
    assert said.level == "crisis" and any("不想活" in reason for reason in said.reasons)
    assert screen("").level == screen("   \n").level == "none"


def shares(file: Path, said=lambda text: screen(text).level) -> dict[str, dict[str, float]]:
    """Of each level's texts, the share that is given each level."""
    rows = read_jsonl(file)
    return {level: {other: np.mean([said(r["text"]) == other for r in rows if r["level"] == level]) for other in LEVELS} for level in LEVELS}


# Floors below what was measured, so that a change that costs much is noticed; the figures are in README.
@pytest.mark.parametrize("file, recall, specificity", [
    (ROOT / "tests/crisis_dev_zh.jsonl", 0.93, 0.92), (ROOT / "tests/crisis_dev_en.jsonl", 0.85, 0.75),
    (HELD_OUT / "crisis_zh.jsonl", 0.85, 0.85), (HELD_OUT / "crisis_en.jsonl", 0.75, 0.70)], ids=lambda x: getattr(x, "stem", x))
def test_floors_on_texts_that_it_was_not_trained_on(file, recall, specificity):
    found = shares(file)
    assert found["crisis"]["crisis"] >= recall and 1 - found["none"]["crisis"] >= specificity, found
    assert found["concern"]["none"] <= 0.5, found


@pytest.mark.parametrize("name", DISGUISES)
def test_disguises(name):
    chance, crises = random.Random(9), [r["text"] for r in read_jsonl(HELD_OUT / "crisis_zh.jsonl") if r["level"] == "crisis"]
    hidden = [DISGUISES[name](text, chance) for text in crises]
    changed = sum(a != b for a, b in zip(hidden, crises))
    assert changed >= 0.9 * len(crises) and np.mean([screen(text).level == "crisis" for text in hidden]) >= 0.75


def test_long_letters():
    levels = {row["question_id"]: row["level"] for row in read_jsonl(BUNDLED / "letters.jsonl")}
    letters = {row["question_id"]: row["question"] for row in read_jsonl(BUNDLED / "questions.jsonl")}
    assert set(levels) < set(letters) and all(row["reason"] in letters[row["question_id"]] for row in read_jsonl(BUNDLED / "letters.jsonl"))
    said = {name: screen(text).level for name, text in letters.items()}  # it was trained on them
    assert np.mean([said[name] == levels.get(name, "none") for name in letters]) > 0.97


@pytest.mark.slow
def test_training_gives_the_weights_that_ship():
    """On another processor sums may round otherwise: the log odds agree to 0.05."""
    made = crisis_training.train(read_jsonl(BUNDLED / "crisis.jsonl") + crisis_training.long_texts())
    texts = [normalise(r["text"]) for r in read_jsonl(ROOT / "tests/crisis_dev_zh.jsonl")]
    ours = np.array([crisis_model.odds(text) for text in texts])
    shipped, crisis_model.weights = crisis_model.weights, lambda path=None: tuple(made[name].astype(np.float32) for name in ("idf", "weights", "intercepts"))
    try:
        assert np.abs(np.array([crisis_model.odds(text) for text in texts]) - ours).max() < 0.05
    finally:
        crisis_model.weights = shipped


def test_weights_are_plain_arrays():
    for path in (crisis_model.FILE, guard.FILE):
        with np.load(path, allow_pickle=False) as file:
            assert set(file) == {"idf", "weights", "intercepts"} and len(file["idf"]) == 2**crisis_model.BITS


def test_speed_and_linear_time():
    def seconds(text: str, times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            screen(text)
        return time.perf_counter() - start

    texts = [row["text"] for row in read_jsonl(ROOT / "tests/crisis_dev_zh.jsonl")]
    start = time.process_time()
    [screen(text) for text in texts]
    assert len(texts) / (time.process_time() - start) > 2_500  # 5,180 were seen on one core
    for piece in ("我想自杀，", "想", "plan", "she is ", "死", "今晚对不起", "自 ", "a", "药藏", "没有"):
        seconds(piece * 100, 1)
        assert seconds(piece * 10_000, 1) < 40 * max(seconds(piece * 500, 1), 0.005), piece


def test_normalise():
    assert normalise("想ＺＳ") == "想自杀" and normalise("自 殺") == normalise("自*杀") == "自杀" and normalise("我\ud83d") == "我\ufffd"
    assert normalise("不想活了 真的") == "不想活了 真的" and normalise("我 想 睡 觉") == normalise("我.想.睡.觉") == normalise("我😭想🌙睡✨觉") == "我想睡觉"
    assert normalise("k i l l") == "kill" and normalise("3 月 5 日，周 末") == "3 月 5 日,周 末"
