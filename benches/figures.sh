#!/usr/bin/env bash
# Makes the figures of docs/benchmarks.md: one fresh server a figure, three runs each, medians. Those of
# pending messages are made by benches/pending.sh.
#
#   cargo build --release && benches/figures.sh [RUNS [NAME]] > figures.txt     # NAME: only figures with it in their name
#
# The data goes to a directory under $TMPDIR; put that on the disk to be measured.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-3}
only=${2:-}
postdate=target/release/postdate
work=$(mktemp -d)
server=
trap 'kill -9 "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

start() {
  rm -rf "$work/data"
  : >"$work/ready"
  "$postdate" serve --listen 127.0.0.1:0 --http off --stomp off --data-dir "$work/data" --json >"$work/ready" 2>"$work/log" &
  server=$!
  until [ -s "$work/ready" ]; do sleep 0.05; done
  POSTDATE_SERVER=$(sed -E 's/.*"binary":"([^"]+)".*/\1/' "$work/ready")
  export POSTDATE_SERVER
}

stop() {
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
}

# Tells the highest anonymous memory of the server while a process runs, and the last.
peak() {
  local most=0 own=0
  while kill -0 "$1" 2>/dev/null; do
    own=$(awk '/^RssAnon/ {print $2}' "/proc/$server/status")
    if [ "$own" -gt "$most" ]; then most=$own; fi
    sleep 0.05
  done
  awk -v most="$most" -v own="$own" 'BEGIN {
    print "{\"rss_anon_peak_mib\": " most / 1024 ", \"rss_anon_mib\": " own / 1024 "}"
  }'
}

# One figure: a name, then the arguments of `postdate bench`.
figure() {
  local name=$1
  shift
  case $name in *"$only"*) ;; *) return ;; esac
  for _ in $(seq "$runs"); do
    start
    "$postdate" bench "$@" --json &
    peak $!
    wait $!
    stop
  done >"$work/out"
  NAME=$name ARGS="$*" python3 -c '
import json, os, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
flat = {}
def walk(prefix, value):
    if isinstance(value, dict):
        for key, inner in value.items():
            walk(f"{prefix}.{key}" if prefix else key, inner)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        flat.setdefault(prefix, []).append(value)
for row in rows:
    walk("", row)
print("{NAME}: postdate bench {ARGS}".format(**os.environ))
for key, values in flat.items():
    print(f"    {key:34} {statistics.median(values):>14,.2f}   ({min(values):,.2f} to {max(values):,.2f})")
' "$work/out"
}

date -u +%FT%TZ
figure "1 conn, 1 at a time" publish --connections 1 --batch 1 --in-flight 1 --seconds 4
figure "1 conn, 256 in flight" publish --connections 1 --batch 1 --in-flight 256 --seconds 4
figure "16 conns, 1 at a time" publish --connections 16 --batch 1 --in-flight 1 --seconds 4
figure "16 conns, 64 in flight" publish --connections 16 --batch 1 --in-flight 64 --seconds 4
figure "16 conns, batches of 100" publish --connections 16 --batch 100 --in-flight 8 --seconds 6
figure "the same, 1 KiB" publish --connections 16 --batch 100 --in-flight 8 --size 1024 --seconds 6
figure "publish, deliver, acknowledge, batches" deliver --seconds 6
figure "publish, deliver, acknowledge, 256 in flight" deliver --connections 1 --batch 1 --in-flight 256 --seconds 6
figure "lateness at 10 000 due/s" deliver --rate 10000 --delay 3s --seconds 8
figure "lateness at 100 000 due/s" deliver --rate 100000 --delay 3s --seconds 8
figure "spike of 1 000 000" spike --messages 1000000
figure "a minute of publishing, flushed and merged meanwhile" publish --connections 16 --batch 100 --in-flight 8 \
  --seconds 60 --delay-min 1h --delay-max 39d
figure "cancels in order of due time" cancel --messages 10000000
figure "cancels in random order" cancel --messages 10000000 --order random
