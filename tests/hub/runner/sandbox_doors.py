"""Doors out of a sandbox that the shared probe file does not carry as code. Each prints ESCAPED if it opens."""

# ruff: noqa: E501  (programs in strings read better unbroken)

from __future__ import annotations

from typing import Any

SYSCALL = "import ctypes;L=ctypes.CDLL(None,use_errno=True);sc=lambda *a:(L.syscall(*a),ctypes.get_errno());"


def attempt(body: str) -> str:
    """The body inside a try that turns any refusal into BLOCKED."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return f"try:\n{lines}\nexcept BaseException as e:\n    print('BLOCKED',type(e).__name__,str(e)[:80])"


def refused(call: str, *, allowed: tuple[int, ...] = (1, 38)) -> str:
    """A system call that must be answered with EPERM or ENOSYS."""
    return attempt(f"{SYSCALL}r,e={call}\nprint('ESCAPED',r,e) if r>=0 or e not in {allowed} else print('BLOCKED',e)")


def connects(family: str, address: str) -> str:
    """A connection that must not come about."""
    return attempt(f"import socket\ns=socket.socket({family});s.settimeout(2);s.connect({address});print('ESCAPED')")


DOORS: dict[str, str] = {
    "fs-home": attempt(
        "import os\nfound=[]\nfor top in ('/root','/home'):\n    for where,_,names in os.walk(top):\n"
        "        if 'lib' not in where.split('/') and '/versions/' not in where: found+=[where+'/'+n for n in names]\n"
        "print('ESCAPED',found[:3]) if found else print('BLOCKED')"
    ),
    "fs-hub-code": attempt(
        "import sys,os\nsys.path[:0]=['@CODE@','@SITE@']\nprint('ESCAPED',os.listdir('@CODE@/hub'))"
    ),
    "fs-hub-import": attempt("import sys\nsys.path[:0]=['@CODE@','@SITE@']\nimport hub.settings\nprint('ESCAPED')"),
    "fs-parent-environ": attempt(
        "import os\nfor x in os.listdir('/proc'):\n    if x.isdigit():\n        try:\n"
        "            if b'canary' in open('/proc/%s/environ'%x,'rb').read(): print('ESCAPED')\n"
        "        except OSError: pass\nprint('BLOCKED')"
    ),
    "fs-write-etc": attempt("open('/etc/hub_probe','w').write('x');print('ESCAPED')"),
    "fs-write-root": attempt("open('/hub_probe','w').write('x');print('ESCAPED')"),
    "fs-write-dev": attempt("open('/dev/hub_probe','w').write('x');print('ESCAPED')"),
    "fs-write-host-tmp": attempt("open('/tmp/hub_probe_written','w').write('x');print('WROTE')"),
    "fs-dotdot-artifact": attempt("open('../../../tmp/hub_probe_dotdot','w').write('x');print('WROTE')"),
    "fs-dev-mem": attempt(
        "for d in ('/dev/mem','/dev/kmem','/dev/port','/proc/kcore'):\n    try: open(d,'rb').read(1);print('ESCAPED',d)\n"
        "    except OSError: pass\nprint('BLOCKED')"
    ),
    "fs-mknod": attempt(
        "import os,stat\nos.mknod('disk',stat.S_IFBLK|0o666,os.makedev(254,0));open('disk','rb').read(1);print('ESCAPED')"
    ),
    "fs-docker-sock": attempt(
        "import os\nfound=[p for p in ('/var/run/docker.sock','/run/docker.sock','/run/podman/podman.sock','/run/dbus') "
        "if os.path.exists(p)]\nprint('ESCAPED',found) if found else print('BLOCKED')"
    ),
    "fs-open-descriptors": attempt(
        "import os\nmore=[os.readlink('/proc/self/fd/'+f) for f in os.listdir('/proc/self/fd') if int(f)>3]\n"
        "print('ESCAPED',more) if more else print('BLOCKED')"
    ),
    "fs-proc-1": attempt(
        "for n in ('cmdline','environ','root/etc/shadow','fd','mem'):\n    try: open('/proc/1/'+n,'rb');print('ESCAPED',n)\n"
        "    except OSError: pass\nprint('BLOCKED')"
    ),
    "k-unshare-user": refused("sc(272,0x10000000)"),
    "k-clone-user": refused("sc(56,0x10000000|17,0,0,0,0)"),
    "k-clone3": refused("sc(435,ctypes.create_string_buffer((0x10000000).to_bytes(8,'little')+bytes(80)),88)"),
    "k-setns": refused("sc(308,0,0)"),
    "k-ptrace-parent": attempt(
        f"import os;{SYSCALL}r,e=sc(101,16,os.getppid(),0,0)\nprint('ESCAPED') if r>=0 else print('BLOCKED',e)"
    ),
    "k-io-uring": refused("sc(425,8,ctypes.create_string_buffer(200))"),
    "k-perf": refused("sc(298,ctypes.create_string_buffer(128),0,-1,-1,0)"),
    "k-setuid-binary": attempt(
        "import subprocess,glob,os,stat\nran=[]\nfor f in ['/usr/bin/su','/usr/bin/mount','/usr/bin/passwd']:\n"
        "    if os.path.exists(f):\n        r=subprocess.run(['sh','-c','grep -E ^Uid /proc/self/status'],capture_output=True)\n"
        "        ran.append(r.stdout)\nlocal='mine'\nopen(local,'w').write('#!/bin/sh');os.chmod(local,0o4755)\n"
        "flags=os.statvfs('/usr').f_flag&os.ST_NOSUID and os.statvfs('.').f_flag&os.ST_NOSUID\n"
        "print('BLOCKED' if flags and 'NoNewPrivs:\\t1' in open('/proc/self/status').read() else 'ESCAPED')"
    ),
    "k-seccomp": attempt("print('BLOCKED' if 'Seccomp:\\t2' in open('/proc/self/status').read() else 'ESCAPED')"),
    "k-bounding-caps": attempt(
        "c=[l.split()[1] for l in open('/proc/self/status') if l.startswith('Cap')]\n"
        "print('ESCAPED',c) if any(int(x,16) for x in c) else print('BLOCKED')"
    ),
    "k-core-pattern": attempt("open('/proc/sys/kernel/core_pattern','w').write('|/bin/sh');print('ESCAPED')"),
    "k-load-module": refused("sc(175,0,0,0)"),
    "k-open-by-handle": refused("sc(304,-100,0,0)"),
    "k-tiocsti-upper-bits": attempt(
        f"import os;{SYSCALL}m,s=os.openpty()\nr,e=sc(16,s,ctypes.c_ulong(0x100000000|0x5412),ctypes.c_char_p(b'x'))\n"
        "print('ESCAPED') if r>=0 or e!=1 else print('BLOCKED')"
    ),
    "k-clock-adjtime": refused("sc(305,0,ctypes.create_string_buffer(256))"),
    "proc-see-host": attempt(
        "import os\npids=[int(x) for x in os.listdir('/proc') if x.isdigit()]\n"
        "print('ESCAPED',pids) if len(pids)>6 or max(pids)>60 else print('BLOCKED')"
    ),
    "proc-signal-all": attempt(
        "import os,signal\nsignal.signal(15,signal.SIG_IGN)\ntry: os.kill(-1,15)\nexcept OSError: pass\nprint('BLOCKED')"
    ),
    "net-127.0.0.1-5432": connects("", "('127.0.0.1',5432)"),
    "net-10.0.0.1-80": connects("", "('10.0.0.1',80)"),
    "net-hub-port": connects("", "('127.0.0.1',@PORT@)"),
    "net-unix-abstract": connects("socket.AF_UNIX", "'\\0@ABSTRACT@'"),
    "net-netlink": attempt("import socket\nsocket.socket(16,3,0);print('ESCAPED')"),
    "net-alg": attempt("import socket\nsocket.socket(38,5,0);print('ESCAPED')"),
    "net-packet-upper-bits": refused("sc(41,ctypes.c_ulong(0x100000000|17),3,0)"),
    "net-iface": attempt(
        "names=[l.split(':')[0].strip() for l in open('/proc/net/dev') if ':' in l]\n"
        "print('BLOCKED' if names in ([],['lo']) else 'ESCAPED '+str(names))"
    ),
    "py-str-concat-import": attempt(
        "o=__import__('o'+'s')\nprint('RAN',getattr(o,'sys'+'tem')('cat /etc/shadow /root/.ssh/id_rsa 2>/dev/null|grep root"
        " && echo ESCAPED'))"
    ),
    "py-pth-persist": attempt(
        "import site,os,sysconfig\nfor d in {sysconfig.get_path('purelib'),*site.getsitepackages()}:\n    try:\n"
        "        open(d+'/hub_probe.pth','w').write('import os');print('ESCAPED',d)\n    except OSError: pass\nprint('BLOCKED')"
    ),
    "clock-set": attempt("import time\ntime.clock_settime(time.CLOCK_REALTIME,0);print('ESCAPED')"),
}
"""Harmless ones: nothing is used up."""

ABUSES: dict[str, dict[str, Any]] = {
    "proc-fork-limit": {
        "code": attempt(
            "import os,time\nn=0\nwhile n<400:\n    if os.fork()==0: time.sleep(60);os._exit(0)\n    n+=1\nprint('ESCAPED')"
        )
    },
    "res-fork-bomb": {"argv": ["/bin/bash", "-c", ":(){ :|:& };: ; sleep 60; echo ESCAPED"], "limits": {"seconds": 3}},
    "res-threads": {
        "code": attempt(
            "import threading\ne=threading.Event()\nfor i in range(400): threading.Thread(target=e.wait,daemon=True).start()\n"
            "print('ESCAPED')"
        )
    },
    "res-memory-many": {
        "code": attempt(
            "import os,time\nfor i in range(8):\n    if os.fork()==0:\n        b=bytearray(150<<20);b[::4096]=b'x'*len(b[::4096])\n"
            "        time.sleep(3);os._exit(0)\nfor i in range(8): assert os.wait()[1]==0\nprint('ESCAPED')"
        )
    },
    "res-disk": {"code": attempt("f=open('big','wb')\nfor i in range(600): f.write(bytes(1<<20))\nprint('ESCAPED')")},
    "res-disk-many": {
        "code": attempt(
            "for d in ('/tmp','/workspace','/dev/shm'):\n    try:\n        for i in range(300): open(d+'/%d'%i,'wb').write(bytes(1<<20))\n"
            "        print('ESCAPED')\n    except OSError: pass\nprint('BLOCKED')"
        )
    },
    "res-memfd": {"code": attempt("import os\nos.memfd_create('x');print('ESCAPED')")},
    "res-cpu": {"code": "while True: pass"},
    "res-sleep": {"code": "import time;time.sleep(100);print('ESCAPED')", "limits": {"seconds": 0.5}},
    "res-closed-pipes": {
        "code": "import os,time;os.close(1);os.close(2);time.sleep(100)",
        "limits": {"seconds": 0.5},
    },
    "res-zombies": {
        "code": attempt(
            "import os\nfor i in range(30):\n    if os.fork()==0:\n        os.fork();os._exit(0)\n    os.wait()\nprint('RAN')"
        )
    },
    "res-daemon": {
        "code": "import os,time\nif os.fork()==0:\n    os.setsid()\n    if os.fork()==0:\n"
        "        os.execvp('sleep',['hub_daemon_probe','3456'])\n    os._exit(0)\nprint('RAN')"
    },
    "res-output-stderr": {
        "code": attempt("import sys\nfor i in range(200): sys.stderr.write('x'*1000000)\nprint('ESCAPED')")
    },
}
"""Those that use something up, with the bounds that must hold."""
