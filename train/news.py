"""Topic-labelled short texts, sentences with entities, and articles with a summary."""

from __future__ import annotations

from random import Random

from words import CITIES, COUNTRIES, GIVEN, SURNAMES, WORLD_CITIES

TOPICS = ["体育", "财经", "科技", "教育", "娱乐", "健康"]
TOPIC_WORDS: dict[str, list[str]] = {
    "体育": "足球 篮球 排球 网球 乒乓球 羽毛球 游泳 跳水 体操 田径 马拉松 短跑 举重 射击 滑雪 滑冰 冰球 拳击 击剑 自行车赛 赛车 围棋赛 世界杯 奥运会 亚运会 全运会 联赛 决赛 半决赛 小组赛 冠军 亚军 金牌 银牌 铜牌 球员 球队 教练 主教练 裁判 前锋 后卫 守门员 门将 主场 客场 比分 进球 点球 射门 三分球 篮板 扣篮 主力 队长 国家队 国足 女排 男篮 训练 比赛 赛季 纪录 球迷 体育场 转会 加时赛 战胜 夺冠 晋级 运动员 选手 发球 淘汰 积分榜".split(),
    "财经": "股票 股市 基金 债券 银行 利率 降息 加息 贷款 存款 汇率 人民币 美元 央行 投资 投资者 市值 上市 股价 涨停 跌停 指数 大盘 收盘 开盘 成交额 利润 净利润 营收 财报 季度 亏损 增长 同比 通胀 物价 消费 零售 出口 进口 贸易 关税 税收 房价 楼市 房地产 油价 黄金 期货 保险 证券 融资 并购 收购 股东 分红 经济 国内生产总值 财政 外汇 市场 企业 订单 工业 制造业 供应链 资金 理财 交易 成本 预算 亿元 万亿元 百分点".split(),
    "科技": "人工智能 芯片 手机 电脑 软件 硬件 算法 数据 大模型 机器人 无人机 自动驾驶 卫星 火箭 飞船 空间站 航天 发射 5G 网络 互联网 云计算 量子 处理器 屏幕 摄像头 电池 充电 新能源 电动汽车 操作系统 应用程序 程序员 开发者 代码 开源 升级 版本 发布会 新品 科学家 研究人员 实验室 论文 技术 研发 专利 传感器 虚拟现实 智能手表 智能家居 语音识别 图像识别 信息安全 黑客 漏洞 服务器 数据中心 望远镜 探测器 月球 火星 半导体 纳米 材料 基站 芯片制造 系统 平台 用户 科研 突破 智能".split(),
    "教育": "学校 老师 教师 学生 高考 中考 考试 考研 录取 招生 志愿 分数线 大学 高校 中学 小学 幼儿园 课程 课堂 教材 课本 作业 减负 双减 补课 培训 家长 校长 班主任 毕业 毕业生 就业 学位 硕士 博士 研究生 本科 奖学金 助学金 留学 留学生 教学 教育部 教育局 义务教育 职业教育 素质教育 学科 语文 数学 英语 成绩 入学 报名 开学 寒假 暑假 校园 图书馆 宿舍 论文答辩 学分 社团 夏令营 研学 阅读 劳动课 学费 在线课程 师范 升学 学习 教室 支教 学业".split(),
    "娱乐": "电影 电视剧 综艺 明星 演员 导演 歌手 歌曲 专辑 演唱会 票房 上映 首映 主演 剧情 角色 粉丝 偶像 红毯 颁奖 影帝 影后 金鸡奖 奥斯卡 电影节 音乐节 乐队 舞台 话剧 相声 小品 春晚 主持人 节目 嘉宾 收视率 播出 开播 片场 拍摄 杀青 剧组 编剧 动画片 喜剧片 动作片 科幻片 爱情片 预告片 海报 新歌 唱片 流行音乐 摇滚 说唱 经纪人 绯闻 恋情 婚礼 直播 短视频 网红 观众 影院 影片 配音 主题曲 巡演 门票 娱乐圈 女主角 男主角".split(),
    "健康": "医生 医院 患者 疾病 感冒 发烧 流感 疫苗 病毒 高血压 糖尿病 心脏病 癌症 肿瘤 肥胖 减肥 睡眠 失眠 饮食 营养 蔬菜 水果 维生素 蛋白质 脂肪 盐 糖 血压 血糖 血脂 体检 治疗 手术 药物 服药 药品 中医 中药 针灸 康复 护理 锻炼 散步 健身 免疫力 过敏 咳嗽 头痛 胃病 肠道 肝脏 心脏 肺部 骨折 牙齿 刷牙 视力 近视 眼睛 皮肤 心理 焦虑 抑郁 压力 戒烟 饮酒 孕妇 老年人 儿童 预防 症状 症 门诊 专家提醒 早餐 喝水 久坐 颈椎 养生".split(),
}
_FRAMES: dict[str, list[str]] = {
    "体育": ["{t}，{c}队在{a}{b}中以{m}比{n}战胜{d}队。", "{p}在{a}比赛中获得{b}，这是他本赛季的第{m}个冠军。", "{c}队{b}表示，球队会认真准备下一场{a}比赛。", "{t}，{p}打破了{a}纪录，现场{b}一片欢呼。", "{a}{b}在{c}举行，来自各地的{n}00名选手参加了比赛。", "经过{m}局激战，{p}击败对手，晋级{a}决赛。", "{p}因伤缺席{a}，{b}对此感到遗憾。", "主教练赛后说，{a}和{b}是球队的强项。"],
    "财经": ["{t}，{a}上涨{m}.{n}%，{b}成为市场关注的焦点。", "{c}公司公布{a}，净利润同比增长{m}%。", "受{a}影响，{b}连续{n}天下跌，投资者情绪谨慎。", "央行宣布调整{a}，专家认为{b}将受到影响。", "今年前{n}个月，{c}{a}总额达到{m}00亿元。", "{c}一家企业计划在{d}投资{m}亿元，扩大{a}规模。", "分析师认为，{a}短期内会带动{b}回升。", "多家公司发布{a}，{b}超出预期。"],
    "科技": ["{t}，{c}一家公司发布了新一代{a}，支持{b}。", "{c}大学的研究团队在{a}领域取得突破，{b}速度提高了{m}倍。", "新款{a}采用了更先进的{b}，价格为{m}999元。", "{a}技术正在改变人们的生活，{b}也变得更加智能。", "我国成功发射{a}，将用于{b}研究。", "工程师介绍，这款{a}可以自动完成{b}任务。", "{p}带领团队开发了{a}系统，已有{m}万用户。", "专家指出，{a}的发展离不开{b}。"],
    "教育": ["{t}，{c}教育局发布通知，加强{a}和{b}工作。", "今年{c}{a}人数达到{m}万，比去年有所增加。", "{c}大学新增{n}个专业，{a}将于下月开始。", "{p}老师坚持用生动的{a}激发学生的兴趣。", "为了帮助学生提高{a}，学校开设了{b}。", "家长们对{a}改革表示支持，希望减轻孩子的{b}负担。", "不少学生利用{a}参加{b}活动。", "学校规定，{a}不得占用学生的休息时间。"],
    "娱乐": ["{t}，{p}主演的{a}在{c}举行首映，{b}到场支持。", "{a}上映{n}天，票房突破{m}亿元。", "歌手{p}的新{a}发布后，受到{b}的喜爱。", "{p}凭借这部{a}获得最佳{b}奖。", "{a}今晚播出，多位{b}亮相舞台。", "{p}将于下月在{c}举办{a}，门票已经售完。", "导演{p}透露，新{a}已经开始{b}。", "这部{a}讲述了一个感人的故事，{b}表现出色。"],
    "健康": ["{a}专家提醒，天气变冷要注意预防{b}。", "研究发现，每天坚持{a}可以改善{b}。", "{c}医院的医生{p}建议，{a}应少吃盐和糖。", "长期{a}会影响{b}，应该及时调整生活习惯。", "{t}，{c}新增{n}例{a}，医生提醒大家做好防护。", "多吃{a}有助于增强{b}。", "出现{a}时，应尽早去医院检查{b}。", "每天睡够{n}小时，对{a}和{b}都有好处。"],
}
_OPENERS = ["", "", "", "据报道，", "记者了解到，", "近日，", "日前，", "有消息称，", "新闻："]
ORG_TAILS = "大学 医院 银行 博物馆 图书馆 科技公司 师范大学 中学 小学 电视台 出版社 研究院 足球俱乐部 汽车集团 日报社 理工大学 第一医院 教育局 公安局 体育局 交通局 航空公司 人民医院 音乐学院 动物园".split()
ORGS = "清华大学 北京大学 复旦大学 浙江大学 南京大学 武汉大学 华为公司 阿里巴巴 腾讯公司 百度公司 小米公司 中国银行 工商银行 联合国 世界卫生组织 教育部 外交部 新华社 中央电视台 故宫博物院 中国科学院 国家图书馆 中国移动 比亚迪公司 京东公司 苹果公司 微软公司 谷歌公司 协和医院 同济大学 中山大学 美的集团 格力电器 中国石油 国家统计局 卫生部 公安部 中国铁路总公司".split()
PLACES = CITIES + COUNTRIES + WORLD_CITIES + "西湖 长城 故宫 泰山 黄山 长江 黄河 天安门广场 颐和园 外滩 四川 广东 江苏 山东 云南 新疆 西藏 海南 湖南 浙江 台湾 福建 河南 陕西 欧洲 非洲 亚洲 南京路 中关村 浦东 陆家嘴 布达拉宫 峨眉山 洞庭湖 太湖".split()


def person(rng: Random) -> str:
    """Draw a full Chinese name."""
    return rng.choice(SURNAMES) + "".join(rng.sample(GIVEN, rng.choice([1, 2, 2])))


def date(rng: Random) -> str:
    """Draw a time expression."""
    return rng.choice([
        f"{rng.randint(1949, 2026)}年", f"{rng.randint(1990, 2026)}年{rng.randint(1, 12)}月", f"{rng.randint(1, 12)}月{rng.randint(1, 30)}日",
        f"{rng.randint(1990, 2026)}年{rng.randint(1, 12)}月{rng.randint(1, 30)}日",
        rng.choice("昨天 今天 明天 前天 去年 今年 明年 上周 下周 上个月 下个月 昨天晚上 今天早上 明天上午 明天下午 上周五 上周末 下周一 周三 星期六 星期一 本周日 春节 国庆节 去年冬天 今年夏天 今晚 后天 早上八点 下午三点 晚上七点 上午九点 中秋节 上周三 本月初 前年 去年九月 今年三月".split())])


def org(rng: Random) -> str:
    """Draw an organisation."""
    return rng.choice(ORGS) if rng.random() < 0.4 else rng.choice(CITIES) + rng.choice(ORG_TAILS)


def topic_text(rng: Random, topic: str | None = None) -> tuple[str, str]:
    """Draw (text, topic)."""
    topic = topic or rng.choice(TOPICS)
    words = TOPIC_WORDS[topic]

    def one() -> str:
        a, b = rng.sample(words, 2)
        if rng.random() < 0.35:
            return rng.choice(["{a}和{b}引起了人们的关注。", "人们越来越重视{a}，也关心{b}。", "关于{a}的消息传来，{b}成为话题。", "{c}的{a}今年有了新变化，{b}也在其中。", "谈到{a}，他说{b}很重要。", "这次{a}让很多人想到了{b}。", "{t}，{p}谈了自己对{a}的看法。", "{a}、{b}是今天的主要内容。"]).format(a=a, b=b, c=rng.choice(CITIES), t=date(rng), p=person(rng))
        return rng.choice(_FRAMES[topic]).format(a=a, b=b, c=rng.choice(CITIES), d=rng.choice(CITIES), p=person(rng), t=date(rng), m=rng.randint(1, 9), n=rng.randint(2, 9))

    return rng.choice(_OPENERS) + "".join(one() for _ in range(rng.choice([1, 1, 2]))), topic


_ENTITY_FRAMES = ["{t}，{p}在{l}参观了{o}。", "{p}是{o}的教授。", "{p}{t}从{l}来到{l}。", "{o}{t}在{l}举行了会议。", "{p}和{p}{t}去{l}旅游。", "{p}毕业于{o}，现在在{l}工作。", "{t}，{o}宣布{p}担任总经理。", "{p}出生在{l}。", "{l}的天气很好，{p}决定{t}出发。", "{o}成立于{t}，总部设在{l}。",
                  "{t}，{l}下了一场大雪。", "{p}在{o}工作了十年。", "我{t}见到了{p}。", "{o}与{o}{t}签订了合作协议。", "{p}将于{t}访问{l}。", "{t}，{p}加入了{o}。", "来自{l}的{p}获得了比赛第一名。", "{o}的{p}医生{t}到{l}为村民看病。", "{p}把书捐给了{o}。", "记者{p}{t}从{l}报道。", "{p}{t}搬到了{l}。", "{t}的会议由{p}主持。", "{l}到{l}的火车{t}开通。", "老师{p}带学生去了{l}的{o}。", "{p}、{p}和{p}一起参加了{o}的活动。", "{t}，{p}乘飞机抵达{l}，随后参观了{o}。", "{o}位于{l}。", "{p}喜欢{l}的美食。"]
_NO_ENTITY = ["这本书很有意思。", "大家都很高兴。", "水果对身体有好处。", "他正在认真地写作业。", "窗外的花开了。", "孩子们在操场上跑步。", "这道菜的味道不错。", "请把门关上。", "学习需要坚持。", "这件衣服太贵了。", "我们应该保护环境。", "小猫在椅子上睡觉。", "雨越下越大。", "她的声音非常好听。", "妈妈做的饭很好吃。", "天上有很多星星。", "这个问题很难回答。", "苹果又大又红。"]
_KINDS = {"p": "人名", "l": "地名", "o": "机构名", "t": "时间"}


def entity_sentence(rng: Random) -> tuple[str, str]:
    """Draw (sentence, its entities in order of appearance)."""
    if rng.random() < 0.06:
        return rng.choice(_NO_ENTITY), "无"
    draw = {"p": person, "l": lambda r: r.choice(PLACES), "o": org, "t": date}
    found: list[str] = []
    text, rest = "", rng.choice(_ENTITY_FRAMES)
    while "{" in rest:
        before, _, after = rest.partition("{")
        value = draw[after[0]](rng)
        text += before + value
        item = f"{_KINDS[after[0]]}：{value}"
        if item not in found:
            found.append(item)
        rest = after[2:]
    return text + rest, "；".join(found)


_EVENTS: dict[str, list[str]] = {
    "体育": ["举办了一场马拉松比赛", "赢得了全国{w}冠军", "建成了新的体育馆", "开始了新的{w}训练"],
    "财经": ["公布了今年的{w}数据", "宣布投资十亿元发展{w}", "推出了新的{w}服务", "召开了{w}会议"],
    "科技": ["发布了新的{w}产品", "研制出新型{w}", "成立了{w}研究中心", "展示了最新的{w}技术"],
    "教育": ["启动了{w}改革", "为学生开设了{w}课程", "举行了{w}活动", "增加了{w}投入"],
    "娱乐": ["举办了国际{w}活动", "开拍了一部新{w}", "举行了{w}颁奖仪式", "推出了新的{w}节目"],
    "健康": ["开展了{w}知识宣传", "开设了{w}门诊", "为居民提供免费{w}服务", "发布了{w}指南"],
}
_DETAILS = ["活动吸引了{n}00多人参加。", "负责人{p}表示，这项工作已经准备了{m}个月。", "很多市民表示支持。", "现场气氛十分热烈。", "据介绍，项目总投资{m}亿元。", "{p}说，希望更多的人了解{w}。", "专家认为，这对当地{w}的发展很有帮助。", "下一步，他们还将在{l}开展类似的工作。", "参加者说，这次经历让他们收获很大。", "整个活动将持续{m}天。", "有关部门也提供了帮助。", "当地居民对此非常欢迎。", "不过，也有人认为{w}还需要改进。", "去年，{l}也有过类似的做法。"]


def article(rng: Random) -> tuple[str, str, str]:
    """Draw (article, its one-sentence summary, topic)."""
    topic = rng.choice(TOPICS)
    words = TOPIC_WORDS[topic]
    actor = rng.choice([org(rng), org(rng), rng.choice(CITIES) + "市", rng.choice(PLACES)])
    event = rng.choice(_EVENTS[topic]).format(w=rng.choice(words))
    where = rng.choice(["", f"在{rng.choice(PLACES)}"])
    lead = rng.choice([f"{date(rng)}，{actor}{where}{event}。", f"{actor}{date(rng)}{where}{event}。", f"记者从{actor}获悉，{actor}{where}{event}。", f"{date(rng)}，记者{person(rng)}报道，{actor}{where}{event}。"])
    details = [d.format(n=rng.randint(2, 9), m=rng.randint(2, 9), p=person(rng), w=rng.choice(words), l=rng.choice(PLACES)) for d in rng.sample(_DETAILS, rng.randint(2, 5))]
    if rng.random() < 0.15:
        details.insert(0, lead)
        lead = topic_text(rng, topic)[0]
    return lead + "".join(details), f"{actor}{where}{event}。", topic


def topic_prompt(text: str) -> str:
    return f"请判断下面这段文字属于哪一类，只写类别名。\n类别：体育、财经、科技、教育、娱乐、健康\n文字：{text}\n类别："


def entity_prompt(text: str) -> str:
    return f"请找出下面句子中的实体。类型有：人名、地名、机构名、时间。按“类型：实体”书写，用“；”隔开，没有就写“无”。\n句子：{text}\n实体："


def summary_prompt(text: str) -> str:
    return f"请用一句话概括下面的文章。\n文章：{text}\n摘要："
