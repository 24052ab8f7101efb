#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 dead-leaders.sh: a program in a session and in a process group whose leaders are dead keeps both, saved and
# moved. Where somebody has such a leader's PID, it is said who, and nothing is left of the attempt.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

cat >"$SHARED/program.py" <<'PYTHON'
import os, signal, sys, time
folder = sys.argv[1]

def write(name, text):
    open(f"{folder}/{name}.new", "w").write(text)
    os.rename(f"{folder}/{name}.new", f"{folder}/{name}")

if os.fork():
    os._exit(0)
os.setsid()
session = os.getpid()
read, told = os.pipe()
if os.fork():
    os.read(read, 1)
    os._exit(0)
group = os.fork()
if group == 0:
    signal.pause()
os.setpgid(group, group)
os.setpgid(0, group)
os.kill(group, signal.SIGKILL)
os.waitpid(group, 0)
os.write(told, b".")
while os.path.exists(f"/proc/{session}"):
    time.sleep(0.001)
os.close(read)
os.close(told)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
write("numbers", f"{os.getpid()} {session} {group}\n")
signal.sigwait([signal.SIGUSR1])
found = [os.getsid(0), os.getpgrp()]
# A job of its own in that session, as a shell would make it.
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os._exit(0 if os.getpgrp() == os.getpid() and os.getsid(0) == session else 1)
ok = found == [session, group] and os.waitpid(child, 0)[1] == 0
write("verdict", "pass" if ok else f"session and group are {found}, not {[session, group]}")
PYTHON

# start NAME: leaves its numbers in $pid, $session, $group
start() {
	dir=$SHARED/$1
	mkdir "$dir" "$dir.images"
	start_on a "$SHARED/$1.log" python3 "$SHARED/program.py" "$dir" >"$SHARED/launcher"
	wait_for "$dir/numbers"
	read -r pid session group <"$dir/numbers"
}
# check HOST [PID]: as that host sees it
check() {
	on_"$1" kill -USR1 "${2:-$pid}"
	wait_for "$dir/verdict"
	[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
	wait_gone "$1" "${2:-$pid}"
}
# hold HOST NUMBER: somebody else has it; his PID is left in $holder
hold() {
	on_"$1" sh -c "echo $(($2 - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 </dev/null >/dev/null 2>&1 & echo \$!
		echo 20000 >/proc/sys/kernel/ns_last_pid" >"$SHARED/holder" # the next numbers are not for godwit itself
	holder=$(cat "$SHARED/holder")
	[ "$holder" = "$2" ] || fail "$2 could not be taken on $1"
	wait_until on_"$1" grep -qx sleep "/proc/$2/comm"
}
migrate() {
	on_a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" "$@" >"$SHARED/migrate.log" 2>&1
}
told() { grep -qF -- "$1" "$SHARED/migrate.log" || fail "not told: $1"; }

start none
check a

start saved
on_a "$GODWIT" dump -t "$pid" -D "$dir.images"
wait_gone a "$pid"
for number in "$session" "$group"; do
	hold a "$number"
	! on_a "$GODWIT" restore -d -D "$dir.images" >"$SHARED/migrate.log" 2>&1 || fail "restored over $number"
	told "$number of the program is in use here by process $number (sleep)"
	! on_a test -e "/proc/$pid" || fail "something is left of it"
	on_a kill -KILL "$holder"
	wait_gone a "$holder"
done
on_a "$GODWIT" restore -d -D "$dir.images"
check a
echo "ok saved and brought back"

start moved
for number in "$session" "$group"; do
	hold b "$number"
	! migrate || fail "moved over $number"
	told "$number of the program is in use here by process $number (sleep)"
	on_b kill -KILL "$holder"
	wait_gone b "$holder"
done
migrate || fail "it did not move"
check b
echo "ok moved"

start apart
hold b "$session"
migrate --pids new || fail "it did not move"
there=$(on_b sh -c "grep -lE '^NSpid:.[0-9]+.$pid\$' /proc/[0-9]*/status 2>/dev/null | cut -d / -f 3")
on_b "$GODWIT" migrate "$there" a --ssh "$HOSTS ssh" --remote-path "$GODWIT" >"$SHARED/migrate.log" 2>&1 ||
	fail "it did not move back"
wait_gone b "$there"
check a
echo "ok moved into a PID namespace of its own, and back"
