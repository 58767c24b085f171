"""What an embedding model is tested with before it may rank: tools, and a question for each in English and Chinese.

The questions share few words with the tools, so that only meaning finds them.
"""

from __future__ import annotations

PROBES: tuple[tuple[str, str, str], ...] = (
    (
        "send email: Deliver a message to a mailbox",
        "write to my colleague that I will be late",
        "给同事写封邮件说我会迟到",
    ),
    ("get weather: Current conditions and forecast of a place", "do I need an umbrella in Paris", "巴黎明天会下雨吗"),
    (
        "create event: Put an appointment into a calendar",
        "schedule a meeting on Friday at ten",
        "周五上午十点安排一个会议",
    ),
    ("read file: Contents of a document on disk", "show me what is in notes.txt", "把这个文档的内容打开给我看"),
    ("delete file: Remove a document from disk", "get rid of the old backup", "删掉旧的备份文件"),
    ("translate text: Another language for a passage", "how do you say good morning in Japanese", "把这段话翻成日语"),
    ("search flights: Air connections between cities", "I want to fly from Berlin to Rome", "从北京飞上海的机票有哪些"),
    ("book hotel: Reserve a room for some nights", "find me a place to sleep in Lisbon", "帮我订一间两晚的房间"),
    ("stock price: Latest quote of a share", "how is Apple doing on the market", "苹果公司现在股价多少"),
    ("convert currency: Amount in other money", "how many euros are a hundred dollars", "一百美元能换多少人民币"),
    ("run query: SQL statement against a database", "count the rows of the orders table", "统计订单表里有多少行数据"),
    ("list containers: Running processes of the cluster", "which pods are up right now", "现在有哪些容器在运行"),
    (
        "scale service: Number of replicas of a deployment",
        "give the web front end three more instances",
        "把这个服务扩容到五个副本",
    ),
    ("play music: Start a song on a speaker", "put on something by the Beatles", "放一首周杰伦的歌"),
    ("generate image: Picture from a description", "draw a cat on the moon", "画一只站在月球上的猫"),
    ("transcribe audio: Text of a recording", "write down what was said in this interview", "把这段录音转成文字"),
    ("order food: Meal brought to an address", "I am hungry, get me a pizza", "我饿了，点一份外卖"),
    ("find route: Directions between two places", "how do I drive to the airport", "开车去机场怎么走"),
    (
        "create issue: Report a bug in a repository",
        "tell the developers that login is broken",
        "给项目提一个登录失败的缺陷",
    ),
    ("merge request: Bring a branch into another", "accept the pull request", "把这个分支合并进主干"),
    ("search logs: Lines of past program output", "why did the server crash last night", "昨晚服务器为什么报错"),
    ("charge card: Take a payment from a customer", "bill the client fifty pounds", "向客户收一笔款"),
    ("solve equation: Unknown of a formula", "what is x if two x plus three is nine", "解这个一元二次方程"),
    ("look up word: Meaning in a dictionary", "what does ephemeral mean", "这个词是什么意思"),
    ("set alarm: Wake somebody at a time", "get me up at seven tomorrow", "明天早上七点叫我起床"),
    ("find job: Open positions at employers", "I am looking for work as a nurse", "帮我找一份护士的工作"),
    ("search recipe: How to cook a dish", "what can I make from eggs and rice", "用鸡蛋和米饭能做什么菜"),
    ("check symptoms: Likely illness of a patient", "my head hurts and I have a fever", "我头疼发烧是得了什么病"),
    ("track parcel: Where a shipment is", "when does my package arrive", "我的快递到哪里了"),
    ("summarise text: Short form of a long document", "give me the gist of this report", "概括一下这份报告的要点"),
)
