#!/usr/bin/env bash
# What pending messages cost: memory, disk, and a restart after SIGKILL; for each N a fresh server
# with the default settings.
#
#   cargo build --release && benches/pending.sh [N...]          # 1000000 10000000 100000000
#   RUNS=3 OUT=docs/pending.tsv benches/pending.sh 1000000 10000000
#
# A line a run is appended to $OUT; the table of all lines in it (medians) is printed at the end.
# The data goes to a directory under $TMPDIR; put that on the disk to be measured, with 100 bytes of
# room for each message and 1 GiB beside.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- 1000000 10000000 100000000
runs=${RUNS:-1}
out=${OUT:-pending.tsv}
postdate=target/release/postdate
work=$(mktemp -d)
mkfifo "$work/ready"
server=
ticks=$(getconf CLK_TCK)
trap 'kill -9 "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# Starts the server; sets `ready_ms` to the time until its ready line.
start() {
  local begin line
  begin=$(now_ms)
  "$postdate" serve --listen 127.0.0.1:0 --http off --stomp off --data-dir "$work/data" --json >"$work/ready" 2>>"$work/log" &
  server=$!
  # The pipe stays open, so that nothing the server may write later meets a closed one.
  exec 3<"$work/ready"
  if ! read -r line <&3; then
    cat "$work/log" >&2
    exit 1
  fi
  ready_ms=$(($(now_ms) - begin))
  POSTDATE_SERVER=$(sed -E 's/.*"binary":"([^"]+)".*/\1/' <<<"$line")
  export POSTDATE_SERVER
}

stop() {
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
  exec 3<&-
}

# A number of a line of JSON.
field() { sed -nE "s/.*\"$1\":([0-9.]+).*/\\1/p"; }

stats() { "$postdate" stats --json; }

anonymous() { awk '/^RssAnon/ {printf "%.0f", $2 * 1024}' "/proc/$server/status"; }

cpu_ms() { awk -v hz="$ticks" '{print ($14 + $15) * 1000 / hz}' "/proc/$server/stat"; }

# Waits until nothing was flushed or merged for longer than it takes to call a time quiet.
settle() {
  local quiet=0 line
  while [ "$quiet" -lt 150 ]; do
    sleep 0.1
    line=$(stats)
    quiet=$((quiet + 1))
    if [ "$(field flushing <<<"$line")$(field store_merging <<<"$line")" != 00 ]; then quiet=0; fi
  done
}

# Keeps the highest anonymous memory while a process runs.
peak() {
  local most=0 own
  while kill -0 "$1" 2>/dev/null; do
    own=$(anonymous)
    if [ "$own" -gt "$most" ]; then most=$own; fi
    sleep 0.1
  done
  echo "$most"
}

measure() {
  local count=$1 load loading most loaded settled_s begin idle before cpu line restarted busy
  busy=$(cut -d' ' -f1 /proc/loadavg)
  start
  "$postdate" bench publish --messages "$count" --delay-min 1h --delay-max 39d --keep \
    --connections 16 --batch 100 --in-flight 8 --json >"$work/load" &
  loading=$!
  most=$(peak "$loading")
  wait "$loading"
  loaded=$(anonymous)
  if [ "$loaded" -gt "$most" ]; then most=$loaded; fi
  load=$(cat "$work/load")
  begin=$(now_ms)
  settle
  settled_s=$((($(now_ms) - begin) / 1000))
  sleep 5
  before=$(cpu_ms)
  sleep 10
  cpu=$(($(cpu_ms) - before))
  idle=$(anonymous)
  line=$(stats)
  [ "$(field scheduled <<<"$line")" = "$count" ] || { echo "not $count: $line" >&2; exit 1; }
  stop
  start
  # Allocators give back what recovery needed only after a while.
  sleep 2
  restarted=$(anonymous)
  [ "$(stats | field scheduled)" = "$count" ] || { echo "messages are missing" >&2; exit 1; }
  stop
  rm -rf "$work/data"
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$count" \
    "$(field per_second <<<"$load")" "$(field per_second_median <<<"$load")" \
    "$(field per_second_worst <<<"$load")" "$most" "$loaded" "$idle" "$restarted" \
    "$(field store_disk_bytes <<<"$line")" "$(field journal_live_bytes <<<"$line")" \
    "$(field journal_disk_bytes <<<"$line")" "$ready_ms" "$cpu" "$busy" >>"$out"
  echo "$count: settled in $settled_s s, ready again in $ready_ms ms" >&2
}

[ -s "$out" ] || printf '%s\n' "pending	per_second	median_second	worst_second	peak_anon_bytes	loaded_anon_bytes	idle_anon_bytes	restarted_anon_bytes	store_bytes	journal_tail_bytes	journal_disk_bytes	restart_ms	idle_10s_cpu_ms	load_before" >"$out"
for count; do
  for _ in $(seq "$runs"); do measure "$count"; done
done
python3 benches/plot.py "$out"
