#!/usr/bin/env bash
# The README's two commands on a machine that has Python and nothing of ours: a new virtual environment, an
# empty HOME, no compiler on PATH, no variables of the caller's but those that tell pip where packages are.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
store=
cleanup() {
    if [ -n "$store" ]; then kill "$store" 2>/dev/null || true; wait "$store" 2>/dev/null || true; fi
    rm -rf "$scratch"
}
trap cleanup EXIT

mkdir "$scratch/home" "$scratch/bin" "$scratch/checkout" "$scratch/tmp"
git -C "$checkout" ls-files -z --cached --others --exclude-standard |
    (cd "$checkout" && while IFS= read -r -d '' file; do [ -e "$file" ] && printf '%s\0' "$file"; done |
        tar --null -T - -cf -) | tar -xf - -C "$scratch/checkout"
for tool in env bash sh cat cp rm mkdir ls cmp sleep head dirname tar dd git seq uname; do
    ln -s "$(command -v "$tool")" "$scratch/bin/$tool"
done
python=$(python3 -c 'import sys; print(sys.base_prefix + "/bin/python3")')
keep=()
while IFS= read -r line; do keep+=("$line"); done < <(env | grep -E '^(PIP_[A-Z_]*|SSL_CERT_[A-Z]*|REQUESTS_CA_BUNDLE)=' || true)
fresh() {
    env -i HOME="$scratch/home" TMPDIR="$scratch/tmp" PATH="$scratch/venv/bin:$scratch/bin" LANG=C.UTF-8 TERM=dumb \
        "${keep[@]}" "$@"
}

"$python" -m venv "$scratch/venv"
cd "$scratch/checkout"

echo "-- pip install . && warehouse up"
fresh pip install -q .
cd "$scratch/home"

echo "-- what is installed: one package, and the launchers of the actors"
fresh python - <<'PY'
from importlib.metadata import files
from pathlib import Path

parts = [Path(file).parts for file in files("warehouse-store")]
names = {part[0] for part in parts if len(part) > 1 and not part[0].endswith(".dist-info") and part[0] != ".."}
assert names == {"actors", "warehouse"}, names
launchers = {part[1] for part in parts if part[0] == "actors" and part[1] != "__pycache__"}
assert launchers == {f"{name}.py" for name in ("__init__", "master", "volume", "compactor", "cluster")}, launchers
links = [file for file in files("warehouse-store") if Path(file.locate()).is_symlink()]
assert not links, links
PY
for program in master volume compactor; do
    fresh python -m "actors.$program" --help >/dev/null
    fresh warehouse "$program" --help >/dev/null
done

echo "-- a program next to files of our names"
mkdir "$scratch/home/program"
for name in errors client conf trio actors; do echo "raise SystemExit('taken: $name')" >"program/$name.py"; done
printf '%s\n' 'import warehouse' 'from warehouse.errors import BucketExists' 'warehouse.connect' 'print("works")' >program/app.py
fresh python program/app.py | grep -qx works

base=$("$scratch/venv/bin/python" - <<'PY'
import random, socket
while True:  # a base whose ports are all free now
    base = random.randrange(20000, 29000, 100)
    try:
        for offset in (0, 1, 10):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", base + offset))
    except OSError:
        continue
    print(base)
    break
PY
)
start_store() {
    # exec: the process id must be the store's own, not that of a shell around it
    (exec env -i HOME="$scratch/home" PATH="$scratch/venv/bin:$scratch/bin" LANG=C.UTF-8 TERM=dumb \
        warehouse up --port-base "$base") >"$scratch/up.log" 2>"$scratch/up.err" &
    store=$!
    for _ in $(seq 300); do
        grep -q '^ready' "$scratch/up.log" && return
        kill -0 "$store" 2>/dev/null || break
        sleep 0.1
    done
    echo "the store did not become ready"
    cat "$scratch/up.log" "$scratch/up.err"
    exit 1
}
start_store

echo "-- the README's five minutes"
mkdir -p pictures/cats
dd if=/dev/urandom of=pictures/cats/cat.jpg bs=1000 count=300 2>/dev/null
echo "hello" >pictures/hello.txt
fresh warehouse mb wh://photos
fresh warehouse cp -r pictures wh://photos/2026
fresh warehouse ls -l wh://photos/2026/
fresh warehouse cat wh://photos/2026/cats/cat.jpg >back.jpg
cmp pictures/cats/cat.jpg back.jpg
tar c pictures | fresh warehouse cp - wh://photos/backup.tar
fresh warehouse cat wh://photos/backup.tar | tar t >/dev/null
url=$(fresh warehouse presign wh://photos/2026/hello.txt)
fresh python -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode().strip())' "$url" | grep -qx hello
fresh warehouse status

echo "-- stop, start, and all is still there"
kill -TERM "$store"; wait "$store"
start_store
fresh warehouse cat wh://photos/2026/cats/cat.jpg >again.jpg
cmp pictures/cats/cat.jpg again.jpg
kill -TERM "$store"; wait "$store"; store=

echo "-- pip install '.[test]' && pytest (collection; the whole suite runs on its own)"
cd "$scratch/checkout"
fresh pip install -q '.[test]'
fresh pytest -q --collect-only -p no:cacheprovider >/dev/null
fresh pytest -q -p no:cacheprovider tests/unit/storage tests/unit/conf tests/unit/auth tests/unit/transport
echo "fresh machine: ok"
