"""The crisis rules: rulings on texts of our own, floors on the bundled texts, speed. All texts are invented."""

import json
import random
import time

import pytest

from empathy_lib import BUNDLED
from empathy_lib.safety import LEVELS, normalise, screen

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
I want to kill myself tonight
I'm going to end my life
I don't want to live anymore
I have thoughts of suicide every day
I keep cutting myself
My husband beats me every night
I want to kill him and I have a knife""".splitlines()
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
杀毒软件怎么装
明天搬家去上海，把猫送人了
I have never thought about suicide
I'm not suicidal, just tired
My job is killing me
I was dying to see that movie
My grandmother died last year
The novel is about a man who wants to die""".splitlines()
TRICKS = "我想自 杀;我想自*杀;我想自/殺;自鲨的念头一直有;我想 zs;我想ｚｓ;好想紫砂;我想4了;我想亖;不想活;想輕生;我想“自杀”;我想自\u200b杀".split(";")


def rows() -> tuple[list, list]:
    """Of the first 310 texts, the half that the rules were written on, and the other half."""
    texts = [json.loads(line) for line in (BUNDLED / "crisis.jsonl").read_text(encoding="utf-8").splitlines()[:310]]
    random.Random(13).shuffle(texts)
    return texts[:155], texts[155:]


def rates(texts: list, positive: set) -> tuple[float, float]:
    truth, said = ({i for i, level in enumerate(levels) if level in positive}
                   for levels in ([t["level"] for t in texts], [screen(t["text"]).level for t in texts]))
    return len(truth & said) / len(said), len(truth & said) / len(truth)


@pytest.mark.parametrize("level, text", [(level, text) for level, texts in zip(LEVELS, (NONE, CONCERN, CRISIS))
                                         for text in texts] + [("crisis", text) for text in TRICKS])
def test_rulings(level, text):
    said = screen(text)
    assert said.level == level, said
    assert bool(said.reasons) == (level != "none") and all(": " in reason for reason in said.reasons)


def test_one_sentence_in_a_long_text():
    calm = "昨天和同事去河边走了走，晚饭后看了一部电影，累死了，不过心情还好。" * 20
    assert screen(calm).level == "none"
    said = screen(calm + "其实我不想活了。" + calm)
    assert said.level == "crisis" and "不想活" in said.reasons[0]
    assert screen("").level == screen("   \n").level == "none"


# The rules know the half they were written on; on the other half they find less than a third of the crises.
@pytest.mark.parametrize("half, positive, precision, recall", [
    (0, {"crisis"}, 0.98, 0.82), (0, {"crisis", "concern"}, 0.97, 0.70),
    (1, {"crisis"}, 0.74, 0.27), (1, {"crisis", "concern"}, 0.67, 0.15)])
def test_floors_on_the_bundled_texts(half, positive, precision, recall):
    measured = rates(rows()[half], positive)
    assert measured[0] >= precision and measured[1] >= recall, measured


def test_speed_and_linear_time():
    def seconds(text: str, times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            screen(text)
        return time.perf_counter() - start

    plain = ("周末和朋友去爬山，路上聊了很多，觉得自己该换个工作，又怕家里不同意。" * 9)[:300]
    assert 500 / seconds(plain, 500) > 2_000
    for piece in ("我想自杀，", "想", "plan", "she is ", "死", "今晚对不起", "自 ", "a", "药藏", "没有"):
        seconds(piece * 100, 1)
        assert seconds(piece * 20_000, 1) < 60 * max(seconds(piece * 1_000, 1), 0.005), piece


def test_normalise():
    assert normalise("ＺＳ") == normalise("自 殺") == normalise("自*杀") == "自杀"
    assert normalise("不想活了 真的") == "不想活了,真的"
