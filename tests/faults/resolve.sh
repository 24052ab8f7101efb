#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run resolve.sh: what godwit resolve says and does with all that a crash, a cut or a dump may have left: the program
# goes on as it says, with its connections, and nothing is left of it.
# shellcheck disable=SC2119 # the options of start_moving aren't ours
set -eu
tests=$(dirname "$0")/..
# shellcheck source=tests/faults/subject.sh
. "$tests/faults/subject.sh"

images=$SHARED/images
said=$SHARED/resolve.log

# resolve HOST STATUS [OPTION]...: ends with that status; what it said is in $said
resolve() {
	where=$1 expected=$2 status=0
	shift 2
	on "$where" "$GODWIT" resolve "$@" >"$said" 2>&1 || status=$?
	[ "$status" -eq "$expected" ] || fail "$what: resolve $* ended with $status, not $expected: $(cat "$said")"
}

says() {
	for text in "$@"; do grep -qF -e "$text" "$said" || fail "$what: nothing says '$text': $(cat "$said")"; done
}

says_nothing() { [ ! -s "$said" ] || fail "$what: said: $(cat "$said")"; }

save() { # [OPTION]...
	rm -rf "$images"
	mkdir "$images"
	on "$host" "$GODWIT" dump --tree "$pid" --images-dir "$images" --tcp-established "$@" >"$log" 2>&1 || fail "$what: $(cat "$log")"
}

bring_back() {
	on "$host" "$GODWIT" restore --images-dir "$images" --restore-detached --tcp-established >"$log" 2>&1 ||
		fail "$what: $(cat "$log")"
	settle
}

locks() { on "$host" nft list tables | grep godwit || :; }

# Some program without connections
start_other() {
	other_images=$SHARED/other-images
	rm -rf "$other_images"
	mkdir "$other_images"
	bystander=$(start_on "$host" /dev/null sleep 1000)
}

end_other() { # HOST
	on "$1" kill -KILL "$bystander"
	wait_gone "$1" "$bystander"
}

# each_command CHECK: after each of the commands that do something CHECK is true
each_command() {
	start_other
	on "$host" "$GODWIT" pre-dump --tree "$bystander" --images-dir "$other_images" >"$log" 2>&1 || fail "$(cat "$log")"
	"$@" pre-dump
	rm -rf "${other_images:?}"/*
	on "$host" "$GODWIT" dump --tree "$bystander" --images-dir "$other_images" >"$log" 2>&1 || fail "$(cat "$log")"
	wait_gone "$host" "$bystander"
	"$@" dump
	on "$host" "$GODWIT" restore --images-dir "$other_images" --restore-detached >"$log" 2>&1 || fail "$(cat "$log")"
	"$@" restore
	on "$host" "$GODWIT" migrate "$bystander" "$other" --max-freeze 60000 --ssh "$HOSTS ssh" --remote-path "$GODWIT" >"$log" 2>&1 || fail "$(cat "$log")"
	wait_gone "$host" "$bystander"
	"$@" migrate
	on "$other" "$GODWIT" migrate "$bystander" "$host" --max-freeze 60000 --ssh "$HOSTS ssh" --remote-path "$GODWIT" >"$log" 2>&1 || fail "$(cat "$log")"
	wait_gone "$other" "$bystander"
	"$@" receive
	end_other "$host"
}

# ---- Locks ----

is_kept() { [ "$(locks)" = "$kept" ] || fail "$what: after $1 there is '$(locks)', not '$kept'"; }

left_stopped() {
	what='a program that is left stopped'
	save --leave-stopped
	kept=$(locks)
	[ "$kept" ] || fail "$what: no lock"
	resolve "$host" 0 --list
	says "network lock of process $pid (ticker), since 20" "packets dropped: left without its network: godwit resolve --thaw PID lets it go on"
	each_command is_kept
	resolve "$host" 0
	is_kept resolve
	resolve "$host" 1 --unlock "$pid"
	says "no network lock is kept for a program $pid that was saved and ended" "Nothing was changed."
	is_kept 'resolve --unlock'
	resolve "$host" 0 --thaw "$pid"
	settle
}

# is_swept COMMAND: and there is another one for the next command to sweep
is_swept() {
	[ -z "$(locks)" ] || fail "$what: after $1 there is still $(locks)"
	leave_stale_lock
}

# Of a task that was left stopped and is gone: by another program with a connection, which is then killed
leave_stale_lock() {
	listener=$(start_on "$host" "$SHARED/listener.log" /usr/bin/python3 -S -c '
import socket, time
listener = socket.create_server(("127.0.0.1", 7001))
client = socket.create_connection(("127.0.0.1", 7001))
server = listener.accept()
open("/run/shared/connected", "w")
time.sleep(1000)')
	wait_for "$SHARED/connected"
	rm -rf "$SHARED/connected" "$SHARED/stale-images"
	mkdir "$SHARED/stale-images"
	on "$host" "$GODWIT" dump --tree "$listener" --images-dir "$SHARED/stale-images" --tcp-established --leave-stopped >"$log" 2>&1 ||
		fail "$what: $(cat "$log")"
	on "$host" kill -KILL "$listener"
	wait_gone "$host" "$listener"
	[ "$(locks)" ] || fail "$what: no lock is left"
}

gone() {
	what='a program that was left stopped and is gone'
	leave_stale_lock
	resolve "$host" 0 --list
	says "network lock of process $listener (gone), since 20" "packets dropped: its program is gone"
	each_command is_swept
	resolve "$host" 0
	[ -z "$(locks)" ] || fail "$what: after resolve there is still $(locks)"
	settle
}

saved() {
	what='a program that was saved and ended'
	save
	wait_gone "$host" "$pid"
	kept=$(locks)
	resolve "$host" 0 --list
	says "network lock of process $pid (saved), since 20" "saved and ended: kept until it is restored here, or godwit resolve --unlock PID"
	each_command is_kept
	bring_back
	[ -z "$(locks)" ] || fail "$what: after restore there is still $(locks)"
	half_restored
	what='the lock of a program that nobody wants back'
	save
	wait_gone "$host" "$pid"
	resolve "$host" 0 --unlock "$pid"
	says_nothing
	[ -z "$(locks)" ] || fail "$what: after resolve --unlock there is still $(locks)"
	resolve "$host" 1 --unlock "$pid"
}

# It stands still, so that it doesn't find its connections dead.
half_restored() {
	what='restore killed with its keeper'
	save
	wait_gone "$host" "$pid"
	godwit=$(start_on "$host" "$log" env GODWIT_TEST_STOP_AT=outlives:STOP "$GODWIT" restore --images-dir "$images" \
		--restore-detached --tcp-established)
	from=$host
	reaches_phase "$host" || fail "$what: ended before: $(cat "$log")"
	kill_keeper "$host"
	on "$host" kill -KILL "$godwit"
	wait_until is_stopped
	resolve "$host" 0 --thaw "$pid"
	[ -z "$(locks)" ] || fail "$what: after resolve --thaw there is still $(locks)"
	settle
}

is_stopped() { [ "$(program_state "$host")" = stopped ] && ! on "$host" pgrep -x 'godwit|keeper'; }

# ---- Migrations ----

# Everything that could settle it is dead
crash_at() { # PHASE
	what="all killed at $1"
	export GODWIT_TEST_STOP_AT="$1:STOP"
	start_moving
	unset GODWIT_TEST_STOP_AT
	case $1 in destination-*) stopped=$to ;; *) stopped=$from ;; esac
	reaches_phase "$stopped" || fail "$what: ended before: $(cat "$log")"
	strike keepers
	wait_gone "$from" "$godwit"
	wait_until no_receive
}

no_receive() { ! on "$to" pgrep -x 'godwit|keeper'; }

# before_commit: its record says so; it runs on here
before_commit() {
	crash_at prepared
	resolve "$from" 3 --list
	says "of process $pid (ticker) to $to, begun 20" "cut off before anything was decided; godwit resolve clears it away"
	resolve "$from" 0
	says "it runs on here"
	resolve "$to" 0
	settle
	[ "$host" = "$from" ] || fail "$what: it has moved"
}

committed() {
	crash_at committed
	resolve "$from" 3 --list
	says "undecided: the copy here stands still; godwit resolve asks the destination"
	resolve "$from" 1 --thaw "$pid"
	says "process $pid is on its way to $to" "--take-back $pid is for when that host is gone" "The program may still stand still."
	resolve "$from" 0
	says "it runs on here"
	resolve "$to" 0
	settle
	[ "$host" = "$from" ] || fail "$what: it has moved"
}

# Nobody can be asked: it stays as it is until somebody knows better.
unreachable() {
	crash_at committed
	resolve "$to" 0
	on "$from" mount --bind /bin/false "$HOSTS"
	resolve "$from" 3
	says "still undecided: "
	[ "$(program_state "$from")" != here ] || fail "$what: it runs, though nobody knows whether it may"
	resolve "$from" 0 --take-back "$pid"
	on "$from" umount "$HOSTS"
	settle
	[ "$host" = "$from" ] || fail "$what: it has moved"
	resolve "$from" 1 --take-back "$pid"
	says "no migration of process $pid is undecided here" "godwit resolve --list tells which are"
}

gone_there() {
	crash_at destination-runs
	resolve "$from" 3 --list
	says "undecided: the copy here stands still"
	resolve "$to" 0 --list
	says "of process $pid (ticker) to this host, begun 20" "it runs here; the source doesn't know yet and will ask"
	resolve "$from" 0
	says "it runs at the destination; the copy here has been ended"
	settle
	[ "$host" = "$to" ] || fail "$what: it has not moved"
}

half_gone() {
	crash_at destination-outlives
	resolve "$to" 3 --list
	says "cut off while it was let go; godwit resolve looks for the program"
	resolve "$to" 0
	says "it runs here; the source doesn't know yet and will ask"
	resolve "$from" 0
	says "it runs at the destination; the copy here has been ended"
	settle
	[ "$host" = "$to" ] || fail "$what: it has not moved"
}

# At the destination nobody has to ask any more.
forgotten() {
	crash_at destination-runs
	migration=$(on "$to" ls /var/lib/godwit | sed 's/[.].*//')
	resolve "$to" 0 --forget "$migration"
	says_nothing
	[ -z "$(on "$to" ls -A /var/lib/godwit)" ] || fail "$what: a record is left"
	resolve "$to" 1 --forget "$migration"
	says "$migration" "No such file" "Nothing was changed."
	# As if the source had gone with its host
	on "$from" kill -KILL "$pid"
	wait_gone "$from" "$pid"
	resolve "$from" 0
	says "nothing is left of it here"
	settle
	[ "$host" = "$to" ] || fail "$what: it has not moved"
}

start_subject
what='nothing'
resolve a 0
resolve a 0 --list
says_nothing
resolve a 2 --list --thaw "$pid"
says "one of --list, --thaw, --take-back, --unlock and --forget at a time"
left_stopped
gone
before_commit
committed
unreachable
gone_there
half_gone
forgotten
saved
echo "all is settled as it was said; slowest reply and replies: $(cat "$counter_report")"
