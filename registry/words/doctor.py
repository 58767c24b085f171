"""What the doctor found, in both languages. The English is the hub's own list; here is the Chinese of each entry."""

from __future__ import annotations

from collections.abc import Mapping

from hub.doctor.checks import CHECKS

CHINESE: Mapping[str, tuple[str, str]] = {
    "header-scheme-missing": (
        "Authorization 请求头只有一个裸值，缺少 `Bearer` 之类的方案。",
        "改为 `Authorization: Bearer VALUE`。",
    ),
    "secret-quoted": ("密钥带着引号，引号会被一并发送。", "去掉引号后重新声明。"),
    "secret-whitespace": (
        "密钥首尾有空格或换行，常见于从文件读取。",
        "去掉首尾空白，例如使用 `$(tr -d '\\n' < FILE)`。",
    ),
    "secret-placeholder": ("值仍是示例中的占位符；枢纽不会从自己的环境展开变量。", "填入真实的值。"),
    "address-placeholder": ("URL 中仍有示例的占位符。", "填写真实服务器的 URL。"),
    "loopback-in-container": (
        "URL 写的是 localhost，在容器内即容器自身，那里没有监听者。",
        "使用容器可见的主机名（如 `host.docker.internal`）或服务名。",
    ),
    "dns": ("主机名解析不到地址。", "检查 URL 的拼写，以及本机的域名解析。"),
    "tcp-refused": ("该地址和端口无人监听。", "启动服务器，或更正 URL 中的端口。"),
    "tcp-timeout": ("连接超时：防火墙丢弃了数据包，或主机已关机。", "放通枢纽所在机器到该主机和端口的网络。"),
    "unreachable": ("网络中没有通往该地址的路由。", "检查枢纽所在机器的路由和 VPN。"),
    "tls-expired": ("服务器证书已过期。", "更新证书。"),
    "tls-not-yet-valid": (
        "服务器证书尚未生效：证书是新的，或某一方时钟有误。",
        "先比对两台机器的时钟，再检查证书日期。",
    ),
    "tls-hostname": ("服务器证书属于另一个名称。", "使用证书中的名称，或为此名称申请证书。"),
    "tls-self-signed": ("服务器证书是自签名的，无人为其担保。", "请本机信任的机构签发，或通过 SSL_CERT_FILE 加入。"),
    "tls-unknown-issuer": (
        "本机不认识签发证书的机构，或服务器漏发了中间证书。",
        "发送完整证书链；公司自有机构可通过 SSL_CERT_FILE 加入。",
    ),
    "tls-handshake": ("未能协商出 TLS 连接。", "检查服务器的 TLS 版本和加密套件：至少需要 TLS 1.2。"),
    "plain-http-on-tls-port": ("URL 写的是 https，而该端口使用明文 HTTP。", "把 URL 改为 http://，或使用 TLS 端口。"),
    "tls-on-plain-port": ("URL 写的是 http，而该端口使用 TLS。", "把 URL 改为 https://。"),
    "silent": ("服务器收下请求，却没有按时回答。", "查看服务器日志；它可能卡住了，或在等待不可用的资源。"),
    "hangs-up": ("服务器没有回答就关闭了连接。", "查看服务器日志：处理请求时很可能出错了。"),
    "not-http": ("该端口的应答不是 HTTP。", "检查 URL 中的端口。"),
    "redirect": ("服务器把调用者引向另一个 URL；枢纽绝不带着凭据跟随跳转。", "直接声明跳转后的 URL。"),
    "wrong-path": ("此路径上没有 MCP，但该服务器的另一路径上有。", "声明找到的那个路径。"),
    "not-found": ("此路径上什么都没有，常见的其他路径上也没有 MCP。", "向服务器的运维人员询问 MCP 端点的路径。"),
    "method-not-allowed": (
        "路径存在但不接受 POST，而 MCP over HTTP 需要 POST。",
        "让服务器或其前置代理在此路径接受 POST。",
    ),
    "not-mcp": ("有应答，但不是 MCP。", "检查 URL 的主机和路径；那里常常是登录页或网站。"),
    "wrong-content-type": (
        "应答是 MCP，但 Content-Type 不符；许多客户端会拒绝。",
        "发送 application/json 或 text/event-stream。",
    ),
    "odd-encoding": ("应答被压缩或不是 UTF-8，而无人要求如此。", "为此路径关闭压缩，并以 UTF-8 应答。"),
    "host-rejected": ("服务器拒绝了调用所用的 Host 名称。", "把 URL 中的名称加入服务器的允许列表。"),
    "origin-rejected": ("服务器因 Origin（或缺少 Origin）而拒绝请求。", "允许没有 Origin 的请求：它只用于防范浏览器。"),
    "rate-limited": ("服务器表示请求过多。", "稍后再试，或为枢纽提高限额。"),
    "server-error": ("服务器在第一个请求上就出错了。", "查看服务器日志。"),
    "gateway-error": ("代理代替服务器应答，称无法连到服务器。", "启动代理后面的服务器，或更正代理的目标。"),
    "refused": ("服务器以此处没有名称的方式拒绝了第一个请求。", "查看服务器日志中的原因。"),
    "auth-required": (
        "服务器要求凭据，而声明中没有。",
        "这样声明：`entrepot servers add NAME URL --header 'Authorization: Bearer VALUE'`。",
    ),
    "auth-rejected": ("服务器不接受所声明的凭据。", "更新凭据，并确认它是为此服务器签发的。"),
    "forbidden": ("服务器认识该凭据，但不允许它这样做。", "扩大该凭据的权限或范围。"),
    "challenge-missing": (
        "服务器拒绝时没有 WWW-Authenticate，客户端无从得知如何登录。",
        "每个 401 都发送带 resource_metadata 的 WWW-Authenticate。",
    ),
    "prm-missing": (
        "受保护资源元数据（RFC 9728）不在应在的两个位置上。",
        "在 /.well-known/oauth-protected-resource 后接端点路径处提供。",
    ),
    "prm-link-broken": ("质询中 resource_metadata 的 URL 没有指向元数据。", "更正 WWW-Authenticate 中的 URL。"),
    "prm-at-root-only": (
        "端点带有路径，而元数据只在主机根部；部分客户端只按路径查找。",
        "同时在 /.well-known/oauth-protected-resource 后接端点路径处提供。",
    ),
    "prm-unreadable": (
        "受保护资源元数据不是指明授权服务器的 JSON 对象。",
        "提供 `resource` 和 `authorization_servers`（RFC 9728）。",
    ),
    "prm-wrong-resource": (
        "元数据说的是另一资源而非此 URL，客户端必须拒绝；在代理之后常常是服务器的内部地址。",
        "设置服务器的公开 URL；`resource` 必须是调用者使用的 URL。",
    ),
    "as-not-public": (
        "授权服务器的地址是枢纽不会访问的：私有地址，或根本不是 URL。",
        "以公开的 https URL 指明授权服务器。",
    ),
    "as-metadata-missing": (
        "授权服务器在应有的位置（RFC 8414、OpenID Connect）都没有元数据。",
        "检查签发者 URL；提供 /.well-known/oauth-authorization-server。",
    ),
    "issuer-mismatch": (
        "授权服务器自称的名称与指向它的名称不同。",
        "使 `issuer` 与 authorization_servers 中的条目逐字相同。",
    ),
    "as-endpoints-missing": (
        "授权服务器的元数据没有授权端点或令牌端点。",
        "在元数据中加入 authorization_endpoint 和 token_endpoint。",
    ),
    "pkce-missing": (
        "授权服务器没有声明支持 S256 的 PKCE，而 MCP 客户端必须要求它。",
        "把 S256 加入 code_challenge_methods_supported。",
    ),
    "as-registration-missing": (
        "客户端既不能注册，也不能自带元数据文档，只能逐个手工登记。",
        "允许客户端元数据文档或动态注册，或手工登记枢纽。",
    ),
    "unknown-version": ("服务器使用此处不认识的 MCP 版本。", "更新服务器；若服务器更新，则更新枢纽。"),
    "era-unsupported": ("服务器不支持为它声明的协议版本。", "使用 `--era auto` 声明。"),
    "era-confusing": ("服务器对自身版本的说法与其行为矛盾。", "更新服务器的 SDK；在此之前用 `--era` 声明可用的版本。"),
    "initialize-refused": ("服务器以错误回应问候。", "查看错误信息和服务器日志。"),
    "wrong-id": ("服务器回答所用的 id 与请求的不同。", "服务器必须原样返回每个请求的 id 及其类型。"),
    "session-lost-at-once": (
        "服务器在下一个请求就忘了会话：多个副本没有共享会话。",
        "让同一会话（请求头 Mcp-Session-Id）的请求到达同一副本，或共享会话。",
    ),
    "session-leak": (
        "服务器为它拒绝的请求也建立会话，而这些会话永远无人关闭。",
        "更新服务器的 SDK；由枢纽造成的，枢纽会关闭。",
    ),
    "notification-refused": ("服务器以错误回应客户端的 `notifications/initialized`。", "以 202 且无正文回应通知。"),
    "clock-skew": ("服务器时钟与枢纽相差很大，令牌和证书会显得尚未生效或已过期。", "让两台机器通过 NTP 校时。"),
    "list-failed": ("服务器答不出自己的某个列表。", "查看错误信息和服务器日志。"),
    "pagination-loop": ("服务器的列表没有尽头：游标又回到之前的页。", "每页使用各自的游标，最后一页不带游标。"),
    "slow-list": (
        "服务器列出内容很慢；客户端会提前放弃而什么都不显示。",
        "在服务器中预先备好列表，不要每次请求时生成。",
    ),
    "huge-list": ("列表太大，会占满模型上下文或超出客户端的工具上限。", "减少工具数量，或通过集合提供。"),
    "empty-tools": (
        "服务器声称有工具却一个也没列出；常常是凭据看不到任何东西。",
        "检查所声明凭据的权限和服务器自身的配置。",
    ),
    "nothing-offered": ("服务器没有承诺任何工具、提示词或资源。", "检查服务器的配置。"),
    "invalid-schema": (
        "某个定义的模式无效或缺少必需内容；为了大家，它被剔除。",
        "在服务器中更正该定义；其余的照常提供。",
    ),
    "unchecked-arguments": (
        "某个工具的模式无法用于检查参数，参数会原样到达服务器。",
        "把模式完整写在定义中：引用的外部模式不会被获取。",
    ),
    "duplicate-names": ("两个定义同名；提供的是第一个。", "为每个定义取各自的名称。"),
    "name-budget": (
        "名称过长，或含有模型接口拒绝的字符；调用者看到的是缩短后的名称。",
        "最多使用 49 个字母、数字、`_`、`-` 和 `.`。",
    ),
    "invalid-result": ("列表缺少新版协议要求的 resultType、ttlMs 或 cacheScope。", "更新服务器的 SDK。"),
    "sse-buffered": (
        "事件流在结束时才到达：服务器前的代理将其缓冲了。",
        "为此路径关闭缓冲（nginx：`proxy_buffering off`，或响应头 X-Accel-Buffering: no）。",
    ),
    "idle-cut": ("静默的流会被切断：服务器前的代理空闲时限太短。", "提高代理对此路径的空闲时限，或让服务器发送心跳。"),
    "runner-down": (
        "管理所有进程的运行器无法连接。",
        "`entrepot status` 和 `entrepot logs --source runner` 会说明原因；`entrepot up` 会启动它。",
    ),
    "command-not-found": ("命令不在本机，或不在该进程的 PATH 中。", "安装它，或以完整路径声明。"),
    "hidden-file": (
        "文件在本机，但沙箱没有展示它。",
        "用 `--read FOLDER` 展示其文件夹，或以 `--sandbox trusted` 声明服务器。",
    ),
    "missing-file": ("进程需要的文件不存在。", "更正命令中的路径。"),
    "permission-denied": (
        "进程无权对文件这样做；沙箱中本机的大部分内容是只读的。",
        "用 `--write FOLDER` 给它可写的文件夹，并使命令可执行。",
    ),
    "missing-env": ("进程需要一个未提供的环境变量；它看不到枢纽自己的环境。", "用 `--env NAME=VALUE` 声明。"),
    "missing-module": ("进程需要的库没有安装在它运行的地方。", "在那里安装，或使用软件包引用，由枢纽安装所需内容。"),
    "sdk-version": (
        "进程使用的 MCP SDK 版本不是它所针对的版本。",
        "固定 SDK 版本：软件包用 `--with 'mcp<2'`，或在服务器自己的环境中固定。",
    ),
    "runtime-version": ("进程是为另一版本的 Python 或 Node.js 编写的。", "用它指明的版本运行。"),
    "wrong-arguments": ("命令不理解它的参数，打印用法后结束。", "更正 `--stdio` 或软件包之后的参数。"),
    "package-not-found": ("软件包或其该版本不在仓库中。", "检查名称和版本。"),
    "runtime-missing": ("运行此类软件包的程序（Node.js、uv）不在本机。", "为 npm: 软件包安装 Node.js 22 或更新版本。"),
    "network-from-process": ("进程连不到它需要的网络资源。", "检查它指明的地址，以及会传给它的枢纽代理设置。"),
    "out-of-memory": ("进程占用的内存超出沙箱上限，已被终止。", "查明它加载了什么；`--sandbox trusted` 会取消上限。"),
    "killed": ("进程被信号终止。", "查看它的日志和本机的日志。"),
    "ends-at-once": (
        "进程自行结束且没有错误：它不是标准流上的服务器。",
        "检查命令：服务器常需要 `--stdio` 或 `serve` 之类的参数。",
    ),
    "crash-at-start": ("进程在启动时出错。", "其最后的输出已显示；作者能给出更多说明。"),
    "crash-loop": ("进程启动、应答，然后一再出错。", "查看日志：`entrepot logs --source child-NAME`。"),
    "mute": ("进程在运行，却不在标准流上回应问候。", "确认它在标准输入输出上使用 MCP，而不是在端口上。"),
    "stdout-noise": ("进程在标准输出上打印了 MCP 以外的内容，严格的客户端会视为结束。", "让它把日志写到标准错误。"),
    "openapi-unreadable": (
        "OpenAPI 描述无法获取，或根本不是。",
        "更正其 URL：必须指向 JSON 或 YAML 的 OpenAPI 3，而不是介绍页面。",
    ),
    "openapi-base-url": ("API 不在枢纽以为的位置。", "用 `--base-url` 声明。"),
    "no-sandbox": ("本机不允许建立沙箱，因此进程没有启动。", "`entrepot doctor` 会说明需要允许什么。"),
}

DOCTOR: Mapping[str, tuple[str, str]] = {
    "doctor.button": ("Examine", "检查"),
    "doctor.title": ("Examination of", "检查："),
    "doctor.lead": (
        "The way of a call, step by step. Nothing was called, stored or changed.",
        "沿着一次调用的路径逐步检查。没有调用、保存或更改任何内容。",
    ),
    "doctor.well": ("Nothing is wrong that the doctor knows by name.", "没有发现已知的问题。"),
    "doctor.fault": ("fault", "故障"),
    "doctor.advice": ("advice", "建议"),
    "doctor.seen": ("Seen", "所见"),
    "doctor.steps": ("Steps that found nothing", "没有发现问题的步骤"),
    "doctor.again": ("Examine again", "再次检查"),
    "step.registered": ("registered", "已注册"),
    "step.declaration": ("declaration", "声明"),
    "step.description": ("description", "API 描述"),
    "step.connection": ("connection", "连接"),
    "step.answer": ("answer", "应答"),
    "step.protocol": ("protocol", "协议"),
    "step.definitions": ("definitions", "提供的内容"),
    "step.streams": ("streams", "事件流"),
    "step.process": ("process", "进程"),
    "step.time": ("time", "时限"),
    **{f"doctor.{check.code}": (check.means, CHINESE[check.code][0]) for check in CHECKS},
    **{f"doctor.{check.code}.step": (check.step, CHINESE[check.code][1]) for check in CHECKS},
}
