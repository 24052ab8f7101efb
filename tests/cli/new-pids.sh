#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 new-pids.sh SUBJECT: where a program's PID or TIDs are taken at the destination, --pids new gives it a PID
# namespace of its own, with an init that ends after it and leaves nothing behind, however the move ends.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

# start NAME: a program on a, whose PID and second TID somebody else has on b
start() {
	dir=$SHARED/$1
	mkdir "$dir"
	pid=$(start_on a "$SHARED/$1.log" "$subject" "$dir")
	wait_for "$dir/ready"
	tid=$(on_a ls "/proc/$pid/task" | sort -n | sed -n 2p)
	# shellcheck disable=SC2016
	on_b sh -c 'for pid; do
		echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
		sleep 1000 </dev/null >/dev/null 2>&1 &
		[ $! = $pid ] || exit 1
	done' hold "$pid" "$tid" || fail "$pid and $tid could not be taken on b"
}
migrate() {
	on_a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" "$@" >"$SHARED/migrate.log" 2>&1
}
told() { grep -qE -- "$1" "$SHARED/migrate.log" || fail "not told: $1"; }
# The program, as b sees it: its process that is PID $pid in a namespace of its own.
over_there() { on_b grep -lE "^NSpid:.[0-9]+.$pid\$" -r /proc --include=status -s --exclude-dir=task | cut -d / -f 3; }
inits() { on_b pgrep -x godwit-init || true; }
no_init() { [ -z "$(inits)" ]; }

start refused
! migrate || fail "moved to PIDs that are taken"
told "PID $pid of the program is in use here"
told "--pids new"
echo "ok the message says how"

# A restore that fails, and one that is killed, leave nothing.
! migrate --pids new -M "--action-script=false" || fail "moved, though a script refused"
wait_until no_init
cat >"$SHARED/killed" <<SCRIPT
#!/bin/sh
GODWIT_TEST_STOP_AT=destination-ready exec $GODWIT "\$@"
SCRIPT
chmod +x "$SHARED/killed"
! on_a "$GODWIT" migrate "$pid" b --pids new --ssh "$HOSTS ssh" --remote-path "$SHARED/killed" \
	>"$SHARED/migrate.log" 2>&1 || fail "moved, though receive was killed"
wait_until no_init
echo "ok a move that fails leaves no init"

migrate --pids new || fail "did not move"
wait_gone a "$pid"
there=$(over_there)
[ "$there" ] || fail "it isn't there"
told "^there: process $there; "
init=$(inits)
[ "$(on_b ps -o ppid= -p "$there" | tr -d ' ')" = "$init" ] || fail "its parent isn't the init"
! on_b grep -q "^SigBlk:.0*\$" "/proc/$init/status" || fail "the init can be interrupted"
on_b kill -TERM "$init"
# Saved from there, which it doesn't notice, it has the PID in its image that it knows.
mkdir "$SHARED/again" "$SHARED/next"
on_b "$GODWIT" pre-dump -t "$there" -D "$SHARED/again"
on_b "$GODWIT" dump -t "$there" -D "$SHARED/next" --prev-images-dir ../again
wait_gone b "$there"
wait_until no_init
[ -e "$SHARED/next/mm-$pid.img" ] || fail "it was saved as $(ls "$SHARED/next")"
on_b "$GODWIT" restore -d -D "$SHARED/next" --pids new
there=$(over_there)
[ "$there" ] || fail "it isn't there again"
on_b kill -USR1 "$there"
wait_for "$dir/verdict"
[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
wait_gone b "$there"
wait_until no_init
echo "ok it moves, is saved and brought back, and its init ends after it"

# A saved one: restore waits, and ends with the program's status.
cat >"$SHARED/program.py" <<'PYTHON'
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(41))
signal.signal(signal.SIGUSR2, lambda *_: None)
open(sys.argv[1], "w").close()
signal.pause()
# Whom nobody waits for any more belongs to the init.
if os.fork() == 0:
    os.setsid()
    open(sys.argv[1] + ".forked", "w").write(str(os.getppid()))
    while os.getppid() != 1:
        time.sleep(0.001)
    open(sys.argv[1] + ".orphan", "w").close()
    signal.pause()
while True:
    signal.pause()
PYTHON
mkdir "$SHARED/images"
pid=$(start_on a "$SHARED/program.log" python3 "$SHARED/program.py" "$SHARED/python")
wait_for "$SHARED/python"
on_a "$GODWIT" dump -t "$pid" -D "$SHARED/images"
on_b sh -c "echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 </dev/null >/dev/null 2>&1 & [ \$! = $pid ]" ||
	fail "$pid could not be taken on b"
on_b "$GODWIT" restore -D "$SHARED/images" --pids new --pidfile "$SHARED/pidfile" &
restoring=$!
wait_for "$SHARED/pidfile"
wait_until [ -s "$SHARED/pidfile" ]
there=$(cat "$SHARED/pidfile")
[ "$there" != "$pid" ] || fail "it has its old PID on b"
[ "$(over_there)" = "$there" ] || fail "the PID file says $there, and it is $(over_there)"
wait_until on_b grep -q '^State:.S' "/proc/$there/status"
on_b kill -USR2 "$there"
wait_until [ -s "$SHARED/python.forked" ]
[ "$(cat "$SHARED/python.forked")" = "$pid" ] || fail "its child's parent is $(cat "$SHARED/python.forked")"
on_b kill -USR1 "$there"
wait_for "$SHARED/python.orphan"
[ "$(inits)" ] || fail "the init ended before the last of its processes"
on_b pkill -KILL -P "$(inits)"
wait $restoring && status=0 || status=$?
[ "$status" = 41 ] || fail "godwit restore ended with $status, not with the program's 41"
wait_until no_init
echo "ok restore waits for the last, and passes the status on"

! on_b "$GODWIT" restore -D "$SHARED/images" --pids new --shell-job 2>"$SHARED/migrate.log" || fail "restored as a job"
told "--shell-job and --pids new exclude each other"

# A thread that begins during the rounds, whose TID somebody has over there: the attempt ends, names him, and the program
# runs on. With a namespace of its own it doesn't matter.
cat >"$SHARED/threads.py" <<'PYTHON'
import signal, sys, threading
def more(*_):
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    open(sys.argv[1] + ".thread", "w").write(f"{thread.native_id}\n")
signal.signal(signal.SIGUSR2, more)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(open(sys.argv[1] + ".end", "w").close()))
open(sys.argv[1], "w").close()
while True:
    signal.pause()
PYTHON
# moved_with_thread NUMBER [OPTION]...: it begins, with this TID, while the rounds are under way
moved_with_thread() {
	number=$1
	shift
	on_b sh -c "echo $((number - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 </dev/null >/dev/null 2>&1 & [ \$! = $number ]
		echo 20000 >/proc/sys/kernel/ns_last_pid" || fail "$number could not be taken on b"
	on_a env GODWIT_TEST_STOP_AT=round:STOP "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" "$@" \
		>"$SHARED/migrate.log" 2>&1 &
	moving=$!
	wait_until on_a sh -c 'ps -o stat= -C godwit | grep -q T'
	rm -f "$SHARED/threads.thread"
	on_a sh -c "echo $((number - 1)) >/proc/sys/kernel/ns_last_pid; kill -USR2 $pid"
	wait_until [ -s "$SHARED/threads.thread" ]
	[ "$(cat "$SHARED/threads.thread")" = "$number" ] || fail "its TID is $(cat "$SHARED/threads.thread"), not $number"
	# It stops at each round.
	while on_a pkill -CONT -x godwit; do sleep 0.01; done
	wait $moving && status=0 || status=$?
}
pid=$(start_on a "$SHARED/threads.log" python3 "$SHARED/threads.py" "$SHARED/threads")
wait_for "$SHARED/threads"
moved_with_thread 30001
[ "$status" != 0 ] || fail "moved over the TID 30001"
told "PID 30001 is taken by sleep"
told "The program runs on here"
on_a grep -q '^TracerPid:.0$' "/proc/$pid/status" || fail "it is still held"
echo "ok a TID that is taken during the rounds"
moved_with_thread 30002 --pids new --json
[ "$status" = 0 ] || fail "it did not move"
there=$(over_there)
told "\"pid_there\":$there,"
on_b kill -USR1 "$there"
wait_for "$SHARED/threads.end"
wait_gone b "$there"
echo "ok in a namespace of its own it doesn't matter"
