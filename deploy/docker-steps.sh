#!/usr/bin/env bash
# What the Dockerfile does, in folders instead of an image: build the wheel, install it with the locked packages into
# a bare environment, start it as the image does, look at its health, stop it. Needs no container engine.
# UV (optional): the path of uv, which installs the same locks much faster than pip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${PYTHON:-python3}"
work="$(mktemp -d)"
hub=""

finish() {
  if [[ -n $hub ]]; then
    kill -TERM "$hub" 2>/dev/null || true
    wait "$hub" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT

locked() { # environment, lock
  if [[ -n ${UV:-} ]]; then
    "$UV" pip install --quiet --python "$1/bin/python" --require-hashes -r "$2"
  else
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$2"
  fi
}

echo "· the build stage"
"$python" -m venv "$work/build"
locked "$work/build" requirements/build.lock
"$python" -m venv "$work/opt"
locked "$work/opt" requirements/local.lock
# Only what the Dockerfile copies, so that a file it forgets is missed here too.
mkdir "$work/src"
cp -r pyproject.toml README.md LICENSE hub servers agents registry "$work/src"
(cd "$work/src" && "$work/build/bin/python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work/wheels" .)
"$work/opt/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$work"/wheels/*.whl

echo "· the image's command"
mkdir -m 0700 "$work/data"
port="$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
options=("$@")
# From the data folder, as in the image: nothing of the clone may be importable by accident.
(cd "$work/data" && exec env -i PATH="$work/opt/bin:/usr/bin:/bin" HOME="$work/data" PYTHONUNBUFFERED=1 \
  ENTREPOT_HOME="$work/data" ENTREPOT_HOST=0.0.0.0 ENTREPOT_PORT="$port" \
  entrepot up --no-first-light "${options[@]}") >"$work/up.log" 2>&1 &
hub=$!
for _ in $(seq 120); do
  if "$work/opt/bin/python" -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/readyz', timeout=4)" 2>/dev/null; then
    echo "· healthy at port $port"
    kill -TERM "$hub"
    wait "$hub"
    hub=""
    echo "· stopped"
    exit 0
  fi
  kill -0 "$hub" 2>/dev/null || break
  sleep 0.5
done
echo "deploy/docker-steps.sh: the hub did not become healthy" >&2
cat "$work/up.log" >&2
exit 1
