#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run commands.sh: options that say what is left behind and how the end is told, in CRIU's short forms, too.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

images=$SHARED/images
work=$SHARED/work
mkdir "$work"

start() { pid=$(start_on a /dev/null sleep 1000); }

new_images() {
	rm -rf "$images"
	mkdir "$images"
}

state() { on_a ps -o stat= -p "$pid" | cut -c 1; }
is_stopped() { [ "$(state)" = T ]; }

echo "--- short forms, a log in the work folder"
start
new_images
on_a "$GODWIT" dump -t "$pid" -D "$images" -W "$work" -o dump.log -v4 -R
[ "$(state)" = S ] || fail "-R: it is in state $(state)"
grep -q "^(00\.[0-9]*) frozen no longer, after" "$work/dump.log" || fail "no phases: $(cat "$work/dump.log")"
grep -q "fd 0: /dev/null" "$work/dump.log" || fail "no objects with -v4: $(cat "$work/dump.log")"
[ ! -e "$images/dump.log" ] || fail "the log isn't in the work folder alone"
new_images
on_a "$GODWIT" dump -t "$pid" -D "$images" -o dump.log -v -v -v --leave-running -l
grep -q "descriptors of" "$images/dump.log" || fail "no counts with -v -v -v"
! grep -q "fd 0" "$images/dump.log" || fail "objects with -v -v -v"

echo "--- left stopped"
new_images
on_a "$GODWIT" dump -t "$pid" -D "$images" -s 2>"$SHARED/message"
wait_until is_stopped
grep -q "godwit resolve --thaw $pid" "$SHARED/message" || fail "the way back isn't told: $(cat "$SHARED/message")"
on_a kill -KILL "$pid"
wait_gone a "$pid"
on_a "$GODWIT" restore -D "$images" -d -s --pidfile "$SHARED/pid"
[ "$(cat "$SHARED/pid")" = "$pid" ] || fail "PID file: $(cat "$SHARED/pid")"
[ "$(state)" = T ] || fail "restore -s: it is in state $(state)"
on_a kill -CONT "$pid"
wait_until on_a sh -c "ps -o stat= -p $pid | grep -q S"
on_a kill -KILL "$pid"
wait_gone a "$pid"

echo "--- a PID file that is there"
! on_a "$GODWIT" restore -D "$images" -d --pidfile "$SHARED/pid" 2>"$SHARED/message" || fail "it was overwritten"
grep -q "PID file: open($SHARED/pid): File exists" "$SHARED/message" || fail "not said: $(cat "$SHARED/message")"
[ "$(cat "$SHARED/pid")" = "$pid" ] || fail "PID file: $(cat "$SHARED/pid")"
on_a test ! -e "/proc/$pid" || fail "something of it is left"
rm "$SHARED/pid"

echo "--- waiting for it"
on_a "$GODWIT" restore -D "$images" --pidfile "$SHARED/pid" &
waiting=$!
wait_until test -s "$SHARED/pid"
wait_until on_a sh -c "grep -q '^TracerPid:.0\$' /proc/$pid/status && ps -o stat= -p $pid | grep -q S"
on_a kill -KILL "$pid"
status=0
wait $waiting || status=$?
[ "$status" = 137 ] || fail "restore ended with $status, not with 128 + SIGKILL"

echo "--- saved, which ends it"
start
new_images
on_a "$GODWIT" dump -t "$pid" -D "$images" --json >"$SHARED/out"
wait_gone a "$pid"
python3 - "$SHARED/out" "$pid" <<-'PYTHON' || fail "not the JSON that is expected: $(cat "$SHARED/out")"
	import json, sys
	told = json.load(open(sys.argv[1]))
	assert told["command"] == "dump" and told["pid"] == int(sys.argv[2]) and told["program"] == "ended", told
	assert told["error"] is None and told["causes"] == [] and told["hints"] == [], told
	assert told["frozen_ms"] > 0 and told["pages_written"] > 10, told
PYTHON

echo "--- how far a migration is: a line that is written over on a terminal, else one for each step"
start
move="$GODWIT migrate $pid b --ssh '$HOSTS ssh' --remote-path $GODWIT"
on_a script -qec "$move" /dev/null >"$SHARED/terminal" </dev/null
wait_gone a "$pid"
steps=$(printf 'prepare\033[K\r')
grep -qF "$steps" "$SHARED/terminal" || fail "no live line: $(cat -v "$SHARED/terminal")"
grep -q 'round 1: .* MB sent, .* MB left, .* MB/s, predicted pause .* ms' "$SHARED/terminal" || fail "no round"
grep -q "^.*moved process $pid to b: pause " "$SHARED/terminal" || fail "no summary: $(cat -v "$SHARED/terminal")"
start
on_a sh -c "$GODWIT migrate $pid b --ssh '$HOSTS ssh' --remote-path $GODWIT -o $SHARED/migrate.log --json -M -o -M $SHARED/receive.log" \
	>"$SHARED/out" 2>"$SHARED/steps"
[ "$(cut -d ' ' -f 1 "$SHARED/steps" | tr '\n' ' ')" = "check connect prepare round " ] || fail "steps: $(cat "$SHARED/steps")"
grep -q "handed over, after a pause of" "$SHARED/migrate.log" || fail "log: $(cat "$SHARED/migrate.log")"
grep -q "it runs" "$SHARED/receive.log" || fail "log over there: $(cat "$SHARED/receive.log")"
python3 - "$SHARED/out" <<-'PYTHON' || fail "not the JSON that is expected: $(cat "$SHARED/out")"
	import json, sys
	told = json.load(open(sys.argv[1]))
	assert told["runs"] == "destination" and told["destination"] == "b" and told["error"] is None, told
	assert told["rounds"] == 1 and told["pause_ms"] > 0 and told["sent_bytes"] > 0, told
PYTHON

echo "--- pages of zeros cost nothing"
cat >"$SHARED/zeros.py" <<-'PYTHON'
	import mmap, signal, sys
	memory = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
	for page in range(len(memory) // mmap.PAGESIZE):
	    memory[page * mmap.PAGESIZE : (page + 1) * mmap.PAGESIZE] = bytes(mmap.PAGESIZE)
	open(sys.argv[1], "w").close()
	while True:
	    signal.pause()
PYTHON
pid=$(start_on a "$SHARED/zeros.log" python3 -S "$SHARED/zeros.py" "$SHARED/ready")
wait_for "$SHARED/ready"
new_images
on_a "$GODWIT" dump -t "$pid" -D "$images" -R
[ "$(stat -c %s "$images"/pages-*.img)" -lt 32000000 ] || fail "saved: $(stat -c %s "$images"/pages-*.img) bytes"
on_a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" --json >"$SHARED/out" 2>"$SHARED/steps"
sent=$(sed -n 's/.*"sent_bytes": *\([0-9]*\).*/\1/p' "$SHARED/out")
[ "$sent" -lt 32000000 ] || fail "sent: $sent bytes"
on_b kill -KILL "$pid"
