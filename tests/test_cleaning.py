import time

import pytest

from empathy_lib.cleaning import clean, noise


@pytest.mark.parametrize("dirty, expected", [
    ("<p>你好&nbsp;世界</p><br/>第二段&amp;<b>粗</b>", "你好 世界\n第二段&粗"),
    ("<div>一<script>var a = '<b>';</script>二</div><!-- 三 -->", "一二"),
    ("ＡＢ１２＠ｅ．ｃ，好。。。。！！！！\u200b\x07", "AB12@e.c，好。！"),
    ("我……不知道", "我……不知道"),
    ("我很累,真的.你呢?好吧", "我很累，真的.你呢？好吧"),
    ("3 < 5 而且 x > 2", "3 < 5 而且 x > 2"),
    ("half-width ｡､ marks, and, English, stays", "half-width 。、 marks, and, English, stays"),
    ("a\r\n\r\n\r\n b\rc", "a\nb\nc"),
    ("谢谢题主的信任。你说的那种累我也有过。\n祝好！", "你说的那种累我也有过。"),
    ("先睡一觉。希望我的回答对你有所帮助。以上仅供参考，祝好～", "先睡一觉。"),
    ("慢慢来。\n世界和我爱着你。", "慢慢来。"),
    ("慢慢来，祝你今晚睡得着。", "慢慢来，祝你今晚睡得着。"),
    ("希望他能回来，对我有所帮助的人不多。", "希望他能回来，对我有所帮助的人不多。"),
    ("今晚先别回他。\n——青岛的老林", "今晚先别回他。"),
    ("Thank you for your question. Grief has no clock.\nI hope this helps!\nBest wishes,\nJane Doe, LMFT", "Grief has no clock."),
    ("Take care of your sleep first, then talk to him.", "Take care of your sleep first, then talk to him."),
    ("谢谢", "谢谢"),  # nothing else would be left
])
def test_clean(dirty, expected):
    assert clean(dirty) == expected
    assert clean(expected) == expected


@pytest.mark.parametrize("text, reason", [
    ("需要的加我微信领取资料", "advertising: contact"), ("想改变的可以添加老师的微信", "advertising: contact"),
    ("挽回爱情，加vx：love_back88，无效退款", "advertising: contact"),
    ("心理课程限时优惠，原价1999元，今天只要99元", "advertising: promotion"),
    ("Buy now and get 50 % off our online therapy plan", "advertising: promotion"),
    ("扫描下方二维码，进群领取音频课", "advertising: contact"), ("一对一疗愈，➕heal_99_you备注来意", "advertising: contact"),
    ("手头紧？专业借款，当天放款", "advertising: promotion"), ("塔罗算复合，前20位八折，私聊下单", "advertising: promotion"),
    ("他找人代写论文被学校查了，我替他害怕。", None), ("我关注公众号里那位老师很久了，每篇都看。", None),
    ("店里让我站门口，扫码加会员，一天站十个小时。", None), ("我爸借款给二叔，当天就后悔了。", None),
    ("https://a.example.com/x https://b.example.com/y 看这个", "advertising: links"),
    ("1234567890!!!!####$$$$", "gibberish"), ("锟斤拷锟斤拷我锟斤拷好锟斤拷", "gibberish"),
    ("我asdfghjklkjhgfdsaqwrtypsdfghjklzxcvbnmqwrtp不知道", "gibberish"),
    ("好难过" * 30, "repetition"),
    ("昨天她在微信里跟我说，以后别联系了。", None), ("他加我微信以后每天找我聊到半夜。", None),
    ("可以打12356这个心理援助热线，先跟人说说。", None), ("我妈买东西只看优惠，衣服原价现价都要比。", None),
    ("我妹妹说豆包过来陪我，它就真的过来了。", None), ("读过一篇文章 https://example.com/grief ，里面说哀伤没有时间表，我觉得说的是我。", None),
])
def test_noise(text, reason):
    assert noise(clean(text)) == reason


def test_linear_time_on_hostile_text():
    for text in ("<" * 200_000, "<a " * 60_000, "谢谢" * 100_000, "\n— " * 60_000, "加" * 200_000, "&" * 200_000, "请可以" * 60_000):
        start = time.perf_counter()
        noise(clean(text))
        assert time.perf_counter() - start < 4, text[:5]
