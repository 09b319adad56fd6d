"""Simple facts, and multiple-choice questions about them."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from arithmetic import drill, zh_sum


class Relation(NamedTuple):
    """A table of facts: subject name, question and statement patterns, (key, value) rows."""

    subject: str
    questions: list[str]
    statements: list[str]
    rows: list[tuple[str, str]]


def _rows(text: str) -> list[tuple[str, str]]:
    return [(k, v) for k, v in (row.split(":") for row in text.split())]


def _relation(subject: str, questions: str, statements: str, rows: str) -> Relation:
    return Relation(subject, questions.split("|"), statements.split("|"), _rows(rows))


RELATIONS = [
    _relation(
        "世界地理",
        "{k}的首都是哪里？|{k}的首都是|下列哪个城市是{k}的首都？",
        "{k}的首都是{v}。|{v}是{k}的首都。",
        "中国:北京 日本:东京 法国:巴黎 英国:伦敦 德国:柏林 俄罗斯:莫斯科 韩国:首尔 意大利:罗马 西班牙:马德里 葡萄牙:里斯本 埃及:开罗 泰国:曼谷 越南:河内 印度:新德里 美国:华盛顿 加拿大:渥太华 澳大利亚:堪培拉 巴西:巴西利亚 阿根廷:布宜诺斯艾利斯 希腊:雅典 土耳其:安卡拉 伊朗:德黑兰 伊拉克:巴格达 蒙古:乌兰巴托 瑞典:斯德哥尔摩 挪威:奥斯陆 芬兰:赫尔辛基 丹麦:哥本哈根 波兰:华沙 奥地利:维也纳 荷兰:阿姆斯特丹 古巴:哈瓦那 新西兰:惠灵顿 菲律宾:马尼拉 马来西亚:吉隆坡 印度尼西亚:雅加达 墨西哥:墨西哥城 瑞士:伯尔尼 比利时:布鲁塞尔",
    ),
    _relation(
        "中国地理",
        "{k}的省会是哪座城市？|{k}的省会是",
        "{k}的省会是{v}。|{v}是{k}的省会。",
        "广东省:广州 四川省:成都 湖北省:武汉 江苏省:南京 浙江省:杭州 陕西省:西安 湖南省:长沙 山东省:济南 辽宁省:沈阳 河南省:郑州 河北省:石家庄 山西省:太原 吉林省:长春 黑龙江省:哈尔滨 安徽省:合肥 福建省:福州 江西省:南昌 贵州省:贵阳 云南省:昆明 甘肃省:兰州 青海省:西宁 海南省:海口",
    ),
    _relation(
        "中国地理",
        "{k}是|{k}是什么？",
        "{k}是{v}。",
        "中国最长的河流:长江 中国面积最大的省级行政区:新疆 中国最大的淡水湖:鄱阳湖 中国最大的咸水湖:青海湖 中国最大的岛屿:台湾岛 中国人口最多的民族:汉族 世界最高的山峰:珠穆朗玛峰 中国的母亲河:黄河 中国最大的城市:上海 五岳之首:泰山 世界上面积最大的国家:俄罗斯 世界上最大的洋:太平洋 世界上最小的洋:北冰洋 世界上最大的洲:亚洲 世界上最大的沙漠:撒哈拉沙漠 世界上最长的河流:尼罗河 世界上流量最大的河流:亚马孙河 中国最大的平原:东北平原",
    ),
    _relation(
        "世界地理",
        "{k}位于哪个洲？|{k}在",
        "{k}位于{v}。|{k}在{v}。",
        "中国:亚洲 日本:亚洲 印度:亚洲 泰国:亚洲 韩国:亚洲 法国:欧洲 德国:欧洲 英国:欧洲 意大利:欧洲 西班牙:欧洲 埃及:非洲 肯尼亚:非洲 南非:非洲 尼日利亚:非洲 美国:北美洲 加拿大:北美洲 墨西哥:北美洲 巴西:南美洲 阿根廷:南美洲 智利:南美洲 澳大利亚:大洋洲 新西兰:大洋洲",
    ),
    _relation(
        "中国文学",
        "《{k}》的作者是谁？|《{k}》的作者是",
        "《{k}》的作者是{v}。|{v}写了《{k}》。",
        "红楼梦:曹雪芹 西游记:吴承恩 水浒传:施耐庵 三国演义:罗贯中 静夜思:李白 春望:杜甫 春晓:孟浩然 登鹳雀楼:王之涣 悯农:李绅 咏鹅:骆宾王 史记:司马迁 资治通鉴:司马光 狂人日记:鲁迅 阿Q正传:鲁迅 朝花夕拾:鲁迅 骆驼祥子:老舍 茶馆:老舍 家:巴金 雷雨:曹禺 子夜:茅盾 边城:沈从文 围城:钱钟书 背影:朱自清 桃花源记:陶渊明 离骚:屈原 岳阳楼记:范仲淹 聊斋志异:蒲松龄 儒林外史:吴敬梓 琵琶行:白居易 长恨歌:白居易 赤壁赋:苏轼 游子吟:孟郊 江雪:柳宗元 窦娥冤:关汉卿 牡丹亭:汤显祖 本草纲目:李时珍 孙子兵法:孙武 再别康桥:徐志摩 望庐山瀑布:李白 早发白帝城:李白 出师表:诸葛亮",
    ),
    _relation(
        "中国文学",
        "“{k}”的下一句是|“{k}”的下一句是什么？",
        "“{k}”的下一句是“{v}”。|{k}，{v}。",
        "床前明月光:疑是地上霜 举头望明月:低头思故乡 春眠不觉晓:处处闻啼鸟 白日依山尽:黄河入海流 欲穷千里目:更上一层楼 锄禾日当午:汗滴禾下土 谁知盘中餐:粒粒皆辛苦 慈母手中线:游子身上衣 千山鸟飞绝:万径人踪灭 红豆生南国:春来发几枝 海内存知己:天涯若比邻 会当凌绝顶:一览众山小 国破山河在:城春草木深 飞流直下三千尺:疑是银河落九天 朝辞白帝彩云间:千里江陵一日还 独在异乡为异客:每逢佳节倍思亲 两个黄鹂鸣翠柳:一行白鹭上青天 野火烧不尽:春风吹又生 夜来风雨声:花落知多少 但愿人长久:千里共婵娟",
    ),
    _relation(
        "中国历史",
        "{k}是谁？|{k}是",
        "{k}是{v}。",
        "秦朝的第一个皇帝:秦始皇 汉朝的开国皇帝:刘邦 唐朝的开国皇帝:李渊 宋朝的开国皇帝:赵匡胤 明朝的开国皇帝:朱元璋 元朝的建立者:忽必烈 中国唯一的女皇帝:武则天 儒家学派的创始人:孔子 道家学派的创始人:老子 墨家学派的创始人:墨子 改进造纸术的人:蔡伦 发明活字印刷术的人:毕昇 出使西域的人:张骞 七下西洋的人:郑和 发明地动仪的人:张衡 领导虎门销烟的人:林则徐 领导辛亥革命的人:孙中山 计算出圆周率后七位的人:祖冲之 被称为诗仙的人:李白 被称为诗圣的人:杜甫 被称为书圣的人:王羲之",
    ),
    _relation(
        "中国历史",
        "{k}发生在哪一年？|{k}是哪一年？",
        "{k}是{v}。|{v}，{k}。",
        "中华人民共和国成立:1949年 辛亥革命爆发:1911年 五四运动爆发:1919年 中国共产党成立:1921年 香港回归:1997年 澳门回归:1999年 北京夏季奥运会举办:2008年 第一次世界大战爆发:1914年 第二次世界大战结束:1945年 鸦片战争爆发:1840年 秦始皇统一中国:公元前221年 哥伦布到达美洲:1492年 美国独立宣言发表:1776年 法国大革命爆发:1789年 恢复高考:1977年 人类首次登上月球:1969年",
    ),
    _relation(
        "世界历史",
        "{k}是谁？|{k}是",
        "{k}是{v}。",
        "提出相对论的科学家:爱因斯坦 发现万有引力的科学家:牛顿 发明电灯的人:爱迪生 发明电话的人:贝尔 提出进化论的人:达尔文 发现新大陆的人:哥伦布 改良蒸汽机的人:瓦特 发明飞机的人:莱特兄弟 发现镭的科学家:居里夫人 美国第一任总统:华盛顿 画蒙娜丽莎的人:达芬奇 画向日葵的人:梵高 写哈姆雷特的人:莎士比亚 提出日心说的人:哥白尼 首次环球航行的人:麦哲伦 发明炸药的人:诺贝尔 提出元素周期表的人:门捷列夫 写命运交响曲的人:贝多芬 杂交水稻之父:袁隆平 第一个进入太空的人:加加林",
    ),
    _relation(
        "高中化学",
        "{k}的化学符号是|{k}元素的符号是什么？",
        "{k}的化学符号是{v}。",
        "氢:H 氧:O 碳:C 氮:N 铁:Fe 铜:Cu 金:Au 银:Ag 钠:Na 钾:K 钙:Ca 镁:Mg 铝:Al 硫:S 氯:Cl 锌:Zn 氦:He 汞:Hg 铅:Pb 磷:P 硅:Si 碘:I",
    ),
    _relation(
        "高中化学",
        "{k}的化学式是|{k}的化学式是什么？",
        "{k}的化学式是{v}。",
        "水:H2O 二氧化碳:CO2 食盐:NaCl 氧气:O2 氢气:H2 一氧化碳:CO 硫酸:H2SO4 盐酸:HCl 氨气:NH3 甲烷:CH4 臭氧:O3 氮气:N2",
    ),
    _relation(
        "高中物理",
        "{k}的国际单位是|国际单位制中，{k}的单位是什么？",
        "{k}的国际单位是{v}。|{v}是{k}的单位。",
        "力:牛顿 功率:瓦特 电流:安培 电压:伏特 电阻:欧姆 长度:米 质量:千克 时间:秒 温度:开尔文 能量:焦耳 压强:帕斯卡 频率:赫兹 电荷量:库仑 速度:米每秒",
    ),
    _relation(
        "高中生物",
        "{k}属于哪一类动物？|{k}属于",
        "{k}属于{v}。|{k}是一种{v}。",
        "狗:哺乳动物 猫:哺乳动物 鲸鱼:哺乳动物 蝙蝠:哺乳动物 海豚:哺乳动物 大熊猫:哺乳动物 老虎:哺乳动物 麻雀:鸟类 企鹅:鸟类 鸡:鸟类 鸭子:鸟类 老鹰:鸟类 蛇:爬行动物 乌龟:爬行动物 鳄鱼:爬行动物 壁虎:爬行动物 青蛙:两栖动物 蟾蜍:两栖动物 大鲵:两栖动物 鲤鱼:鱼类 鲨鱼:鱼类 金鱼:鱼类 蜜蜂:昆虫 蚂蚁:昆虫 蝴蝶:昆虫 蚊子:昆虫 苍蝇:昆虫",
    ),
    _relation(
        "解剖学",
        "人体{k}的器官是|负责{k}的主要器官是什么？",
        "{v}是人体{k}的器官。|人体{k}的器官是{v}。",
        "泵送血液:心脏 交换气体:肺 消化食物:胃 过滤血液:肾脏 思考:大脑 闻气味:鼻子 看东西:眼睛 听声音:耳朵 尝味道:舌头 分泌胆汁:肝脏 吸收营养:小肠",
    ),
    _relation(
        "营养学",
        "缺乏{k}容易引起|人体缺少{k}会得什么病？",
        "缺乏{k}容易引起{v}。",
        "维生素A:夜盲症 维生素B1:脚气病 维生素C:坏血病 维生素D:佝偻病 碘:甲状腺肿大 铁:贫血 钙:骨质疏松",
    ),
    _relation(
        "天文学",
        "{k}是|{k}是哪个？",
        "{k}是{v}。|{v}是{k}。",
        "离太阳最近的行星:水星 太阳系最大的行星:木星 地球的卫星:月球 太阳系的中心:太阳 被称为红色星球的行星:火星 有明显光环的行星:土星 人类居住的行星:地球 离太阳最远的行星:海王星 最亮的行星:金星 离地球最近的恒星:太阳",
    ),
    _relation(
        "古汉语",
        "“{k}”的反义词是|与“{k}”意思相反的词是哪个？",
        "“{k}”的反义词是“{v}”。|{k}和{v}是反义词。",
        "大:小 高:矮 长:短 多:少 快:慢 冷:热 黑:白 新:旧 远:近 轻:重 美丽:丑陋 勇敢:胆小 聪明:愚笨 高兴:难过 开始:结束 成功:失败 前进:后退 安全:危险 简单:复杂 朋友:敌人 黑暗:光明 勤劳:懒惰 节约:浪费 谦虚:骄傲 温暖:寒冷 干净:肮脏 热闹:冷清 粗心:细心 增加:减少 上升:下降 公开:秘密 真诚:虚伪 穷:富 软:硬 苦:甜 早:晚 进步:落后 赞成:反对 喜欢:讨厌 容易:困难",
    ),
    _relation(
        "古汉语",
        "“{k}”的近义词是|与“{k}”意思相近的词是哪个？",
        "“{k}”的近义词是“{v}”。|{k}和{v}是近义词。",
        "高兴:快乐 美丽:漂亮 立刻:马上 著名:有名 帮助:协助 仔细:认真 害怕:恐惧 寂静:安静 忽然:突然 常常:经常 疲倦:劳累 宽阔:宽广 思念:想念 赞扬:表扬 观察:察看 温和:柔和 特别:特殊 愿望:希望 赶快:赶紧 居住:住宿 勇敢:英勇 结束:完结",
    ),
    _relation(
        "中国饮食文化",
        "{k}是哪里的特色食物？|{k}来自",
        "{k}是{v}的特色食物。",
        "烤鸭:北京 热干面:武汉 火锅:重庆 羊肉泡馍:西安 小笼包:上海 过桥米线:云南 臭豆腐:长沙 拉面:兰州 肠粉:广东 狗不理包子:天津 麻婆豆腐:四川 佛跳墙:福建 葡萄干:新疆 酥油茶:西藏",
    ),
    _relation(
        "民族学",
        "{k}吃什么？|{k}的传统食物是",
        "{k}人们吃{v}。|{k}的传统食物是{v}。",
        "端午节:粽子 中秋节:月饼 元宵节:汤圆 春节:饺子 腊八节:腊八粥 重阳节:重阳糕",
    ),
    _relation(
        "民族学",
        "{k}在什么时候？|{k}是农历或公历的哪一天？",
        "{k}是{v}。",
        "春节:正月初一 元宵节:正月十五 端午节:五月初五 七夕节:七月初七 中秋节:八月十五 重阳节:九月初九 国庆节:10月1日 劳动节:5月1日 儿童节:6月1日 教师节:9月10日 元旦:1月1日 妇女节:3月8日 植树节:3月12日",
    ),
    _relation(
        "小学常识",
        "{k}？",
        "{k}？{v}。",
        "一年有几个月:12个月 一天有几个小时:24小时 一个小时有几分钟:60分钟 一分钟有几秒:60秒 一个星期有几天:7天 一年有几个季节:4个 三角形有几条边:3条 正方形有几条边:4条 蜘蛛有几条腿:8条 昆虫有几条腿:6条 人的一只手有几根手指:5根 彩虹有几种颜色:7种 平年有多少天:365天 闰年的二月有几天:29天 一米等于多少厘米:100厘米 一千克等于多少克:1000克 一公里等于多少米:1000米 一元等于几角:10角 直角是多少度:90度 三角形的内角和是多少度:180度",
    ),
    _relation(
        "小学常识",
        "{k}是什么颜色的？|{k}的颜色通常是",
        "{k}是{v}的。",
        "天空:蓝色 草地:绿色 雪:白色 煤炭:黑色 血液:红色 柠檬:黄色 五星红旗:红色 牛奶:白色 香蕉:黄色 树叶:绿色 乌鸦:黑色 葡萄:紫色 海水:蓝色 胡萝卜:橙色",
    ),
    _relation(
        "小学常识",
        "{k}应该去哪里？|{k}时要去",
        "{k}应该去{v}。",
        "生病了:医院 借书:图书馆 存钱:银行 寄信:邮局 买菜:菜市场 看电影:电影院 坐飞机:机场 坐火车:火车站 上课:学校 看动物:动物园 吃饭:餐厅 理发:理发店 报警:派出所 看展览:博物馆 游泳:游泳池 买药:药店 加油:加油站",
    ),
    _relation(
        "计算机科学",
        "{k}是|{k}是什么？",
        "{k}是{v}。",
        "计算机的核心部件:中央处理器 计算机中最小的数据单位:位 一个字节的位数:8位 计算机的输入设备:键盘 计算机的输出设备:显示器 互联网的英文:Internet 人工智能的英文缩写:AI 中央处理器的英文缩写:CPU 计算机使用的进制:二进制 先进先出的数据结构:队列 后进先出的数据结构:栈 网页使用的标记语言:HTML 查询数据库的语言:SQL",
    ),
    _relation(
        "体育学",
        "{k}？",
        "{k}？{v}。",
        "一支足球队上场几名球员:11名 一支篮球队上场几名球员:5名 一支排球队上场几名球员:6名 奥运会几年举办一次:4年 马拉松大约跑多少公里:42公里 奥运五环有几个环:5个 中国的国球是什么:乒乓球 足球世界杯几年举办一次:4年 第一届现代奥运会在哪里举办:雅典 姚明从事什么运动:篮球 刘翔从事什么项目:跨栏 郎平从事什么运动:排球",
    ),
    _relation(
        "大学法律",
        "{k}？",
        "{k}？{v}。",
        "中国的根本大法是什么:宪法 中国最高国家权力机关是什么:全国人民代表大会 中国公民几岁有选举权:18岁 中国的最高审判机关是什么:最高人民法院 中国义务教育有几年:9年 保护消费者的法律是什么:消费者权益保护法 规定婚姻家庭的法律是什么:民法典 规定犯罪和刑罚的法律是什么:刑法",
    ),
    _relation(
        "经济学",
        "{k}？",
        "{k}？{v}。",
        "中国的货币是什么:人民币 美国的货币是什么:美元 日本的货币是什么:日元 英国的货币是什么:英镑 供给大于需求时价格会怎样:下降 需求大于供给时价格会怎样:上升 物价持续上涨叫什么:通货膨胀 国内生产总值的缩写是什么:GDP 中国的中央银行是什么:中国人民银行 国富论的作者是谁:亚当斯密",
    ),
    _relation(
        "农学",
        "{k}？",
        "{k}？{v}。",
        "植物进行光合作用的主要器官是什么:叶 植物吸收水分的主要器官是什么:根 光合作用放出什么气体:氧气 光合作用吸收什么气体:二氧化碳 面粉是用什么做的:小麦 豆腐是用什么做的:大豆 米饭是用什么做的:水稻 蚕吃什么:桑叶 蜜蜂采什么:花蜜 牛奶来自什么动物:牛 羊毛来自什么动物:羊 丝绸来自什么动物:蚕",
    ),
    _relation(
        "高中物理",
        "{k}？",
        "{k}？{v}。",
        "水在多少摄氏度结冰:0度 水在多少摄氏度沸腾:100度 水变成水蒸气叫什么:蒸发 冰变成水叫什么:熔化 水变成冰叫什么:凝固 水蒸气变成水叫什么:液化 声音不能在什么中传播:真空 使苹果落地的力是什么:重力 阻碍物体运动的力是什么:摩擦力 指南针利用了什么:地磁场 镜子成像利用光的什么:反射 彩虹是光的什么现象:折射 世界上传播最快的是什么:光",
    ),
    _relation(
        "成语",
        "成语“{k}”的意思是|“{k}”这个成语形容什么？",
        "成语“{k}”的意思是{v}。",
        "画蛇添足:做多余的事 守株待兔:不劳而获 亡羊补牢:及时补救 对牛弹琴:说话不看对象 井底之蛙:见识短浅 狐假虎威:仗势欺人 掩耳盗铃:自己骗自己 拔苗助长:急于求成 一举两得:做一件事得两样好处 雪中送炭:在困难时给人帮助 锦上添花:好上加好 半途而废:做事不能坚持到底 胸有成竹:做事前已有主意 马到成功:很快取得成功 人山人海:人非常多 五颜六色:颜色很多 滴水穿石:坚持就能成功 三心二意:不专心 专心致志:非常专心 废寝忘食:非常努力 自相矛盾:前后说法不一致 刻舟求剑:不懂得变通 杯弓蛇影:疑神疑鬼 朝三暮四:反复无常 九牛一毛:非常少",
    ),
]
SUBJECTS = sorted({r.subject for r in RELATIONS} | {"初等数学"})


class Choice(NamedTuple):
    """A multiple-choice question; `answer` is an index into `options`."""

    subject: str
    question: str
    options: list[str]
    answer: int

    @property
    def letter(self) -> str:
        return "ABCD"[self.answer]


def make_choice(rng: Random, subject: str | None = None) -> Choice:
    """Draw a question, of one subject if it is given."""
    if subject == "初等数学" or (subject is None and rng.random() < 0.08):
        sum_, value = drill(rng)
        near = [n for n in range(max(0, value - 10), value + 11) if n != value]
        options = [str(n) for n in rng.sample(near, 3)]
        subject, question, right = (
            "初等数学",
            rng.choice(["{}等于多少？", "{}=", "计算{}的结果是"]).format(zh_sum(sum_)),
            str(value),
        )
    else:
        relation = rng.choice([r for r in RELATIONS if subject in (None, r.subject)])
        key, right = rng.choice(relation.rows)
        subject, question = relation.subject, rng.choice(relation.questions).format(k=key)
        others = sorted(
            {v for k, v in relation.rows if v != right and k != key}
            - {v for k, v in relation.rows if k == key}
        )
        alike = [v for v in others if v[-1] == right[-1] and v[-1] in "年条个度岁名国"]
        options = rng.sample(alike if len(alike) >= 3 else others, 3)
    answer = rng.randrange(4)
    options.insert(answer, right)
    return Choice(subject, question, options, answer)


def choice_block(c: Choice, layout: int) -> str:
    """Write one question in CMMLU layout (1: with 题目, 2: without), ending before the answer."""
    lines = "\n".join(
        f"{letter}. {option}" for letter, option in zip("ABCD", c.options, strict=True)
    )
    return (
        f"题目：{c.question}\n{lines}\n答案是："
        if layout == 1
        else f"{c.question}\n{lines}\n答案："
    )


def same_choice(rng: Random) -> Choice:
    """Draw a question whose answer stands in it: practice in finding an option's letter."""
    options = rng.sample(sorted({v for r in RELATIONS for _, v in r.rows}), 4)
    answer = rng.randrange(4)
    return Choice(
        "小学常识",
        rng.choice(["下列哪一项是“{}”？", "选出与“{}”相同的一项", "“{}”是哪一个选项？"]).format(
            options[answer]
        ),
        options,
        answer,
    )


def choice_document(rng: Random, shots: int) -> tuple[str, str]:
    """Draw a few-shot document of one subject and return (prompt, answer)."""
    subject = rng.choice(SUBJECTS)
    layout = 1 if rng.random() < 0.7 else 2
    gap = "" if layout == 1 else " "
    seen: list[Choice] = []
    while len(seen) < shots + 1:
        seen.append(make_choice(rng, subject))
    blocks = [choice_block(c, layout) + gap + c.letter for c in seen[:-1]] + [
        choice_block(seen[-1], layout)
    ]
    head = f"以下是关于{subject}的单项选择题，请直接给出正确答案的选项。\n\n"
    return head + "\n\n".join(blocks), gap + seen[-1].letter


def statement(rng: Random) -> str:
    """Draw a fact as a sentence."""
    relation = rng.choice(RELATIONS)
    key, value = rng.choice(relation.rows)
    return rng.choice(relation.statements).format(k=key, v=value)


def question_answer(rng: Random) -> tuple[str, str]:
    """Draw an open question about a fact and a full-sentence answer."""
    relation = rng.choice(RELATIONS)
    key, value = rng.choice(relation.rows)
    question = rng.choice(relation.questions).format(k=key).replace("下列哪个城市", "哪个城市")
    if not question.endswith("？"):
        question += "什么？" if question.endswith("是") else "哪里？"
    pattern = relation.statements[0]
    answer = f"{value}。" if "？" in pattern else pattern.format(k=key, v=value)
    return question, answer
