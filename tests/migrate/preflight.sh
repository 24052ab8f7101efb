#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run preflight.sh: what the other host lacks is told before the program is stopped for the first time, all at once,
# and the program runs on as if nothing had been asked.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
service=10.77.0.100

# A program that would notice a stop: none may be asked of it. Its thread has an ID of its own.
cat >"$SHARED/server.py" <<'END'
import socket, threading
listener = socket.create_server(("10.77.0.100", 7001))
data = open("/run/shared/own/data")
thread = threading.Thread(target=threading.Event().wait, daemon=True)
thread.start()
open("/run/shared/tid", "w").write(str(thread.native_id))
open("/run/shared/ready", "w").close()
while True:
    listener.accept()
END

# refused NEEDLE...: the last migration failed with each of them in its message
refused() {
	for needle in "$@"; do
		grep -qF -- "$needle" "$SHARED/migrate.log" || fail "no '$needle' in what godwit said"
	done
	[ "$(stops)" = "$before" ] || fail "the program has been stopped"
}

# How often the program was put aside against its will or by it: a stop counts.
stops() { on_a sh -c "cat /proc/$pid/task/*/status | grep ctxt_switches"; }

try() {
	before=$(stops)
	if on_a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" "$@" >"$SHARED/migrate.log" 2>&1; then
		fail "migrated, though it could not work there"
	fi
}

# hold NUMBER...: on host b, as PIDs of programs over there. From one shell, which would get the next number itself.
hold() {
	# shellcheck disable=SC2016
	on_b sh -c 'for pid; do
		echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
		sleep 1000 </dev/null >/dev/null 2>&1 &
		[ $! = $pid ] || exit 1
	done' hold "$@" || fail "$* could not be taken on b"
}

# A port that is in use on b
cat >"$SHARED/holder.py" <<'END'
import signal, socket
listener = socket.create_server(("0.0.0.0", 7001))
open("/run/shared/held", "w").close()
signal.pause()
END

mkdir "$SHARED/own"
echo data >"$SHARED/own/data"
on_a ip addr add "$service/24" dev eth0
pid=$(start_on a "$SHARED/server.log" /usr/bin/python3 -S "$SHARED/server.py")
wait_for "$SHARED/ready"

if on_a "$GODWIT" migrate "$pid" a --ssh "$HOSTS ssh" --remote-path "$GODWIT" >"$SHARED/migrate.log" 2>&1; then
	fail "moved to where it is"
fi
grep -qF "this is the host that it runs on" "$SHARED/migrate.log" || fail "it isn't said that this is the same host"
! grep -q "End that process" "$SHARED/migrate.log" || fail "it is offered to end the program itself"

hold "$pid" "$(cat "$SHARED/tid")"
holder=$(start_on b "$SHARED/holder.log" /usr/bin/python3 -S "$SHARED/holder.py")
wait_for "$SHARED/held"
on_b mount -t tmpfs tmpfs "$SHARED/own"
try
refused "PID $pid of the program is in use here by process $pid (sleep)" \
	"thread ID $(cat "$SHARED/tid") of the program is in use here" \
	"the program has sockets at $service, which is no address here" "--move-address $service" \
	"TCP socket at $service:7001: listen on port 7001: Address already in use" \
	"$SHARED/own/data: missing here" "rsync -a SOURCE:'$SHARED/own/data'"
echo "ok all that is lacking is told at once"

on_b kill -KILL "$pid" "$(cat "$SHARED/tid")" "$holder"
on_b umount "$SHARED/own"
wait_gone b "$holder"
wait_gone b "$pid"
wait_gone b "$(cat "$SHARED/tid")"

try --move-address "$service/24" --cpu-cap fpu,nonsense
refused "is none of none, fpu, ins, cpu, all"
on_a "$GODWIT" migrate "$pid" b --max-freeze 60000 --ssh "$HOSTS ssh" --remote-path "$GODWIT" --move-address "$service/24" --cpu-cap all \
	>"$SHARED/migrate.log" 2>&1 || fail "nothing was lacking any more"
wait_gone a "$pid"
echo "ok without the obstacles it moves"
