"""A plain nginx reverse proxy before the mock server: what copying the bytes costs, and the yardstick of every ratio.

nginx is Debian's (`apt-get install nginx-light`). Where there is none, its columns are left out and the report says so.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from benchmarks.hub import free_port
from benchmarks.machine import Helper

MISSING = "nginx is not installed, so its columns are empty: apt-get install nginx-light"
START_SECONDS = 10.0

CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 16m; client_body_buffer_size 2m; keepalive_requests 1000000;
  proxy_temp_path {folder}/1; client_body_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  upstream mock {{ server {place}; keepalive 128; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location /mcp {{
      proxy_pass http://mock{path}; proxy_buffering off; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host $host;
    }}
  }}
}}
"""


def found() -> str:
    """The program; empty where there is none."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/sbin") or ""


@contextmanager
def before(url: str) -> Generator[Helper | None]:
    """Nginx before a server, at `/mcp` of a free port; None where it is not installed."""
    program = found()
    if not program:
        yield None
        return
    parts, port = urlsplit(url), free_port()
    with TemporaryDirectory(prefix="entrepot-nginx-") as folder:
        file = Path(folder) / "nginx.conf"
        file.write_text(CONFIGURATION.format(folder=folder, place=parts.netloc, path=parts.path, port=port))
        child = subprocess.Popen([program, "-c", str(file), "-p", folder], stderr=subprocess.DEVNULL)
        try:
            _wait(child, port)
            yield Helper(child.pid, port)
        finally:
            child.terminate()
            child.wait(10)


def _wait(child: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and child.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nginx did not start (exit code {child.poll()})")
