#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 held-handoff.sh SUBJECT: godwit is killed at each step of the handoff of a program whose threads can't be
# parked, because seccomp(2) lets them do hardly anything. It stands still until it is known where it is to run, and then
# runs on exactly one host.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

# Its state letter on that host, of proc_pid_stat(5); nothing: it isn't there.
state_on() { on "$1" sed -n "s/^State:[^A-Za-z]*\\([A-Za-z]\\).*/\\1/p" "/proc/$pid/status" 2>/dev/null || true; }
on() { "$HOSTS" on "$@"; }

settled() {
	here=$(state_on a) there=$(state_on b)
	case $here$there in
	S | R) ;;
	*) return 1 ;;
	esac
	on a "$GODWIT" resolve --list >"$SHARED/list" 2>&1
	! [ -s "$SHARED/list" ] || ! grep -q "$pid" "$SHARED/list"
}

# killed_at PHASE HOST
killed_at() {
	dir=$SHARED/$1
	mkdir "$dir"
	pid=$(start_on a "$SHARED/$1.log" "$subject" "$dir")
	wait_for "$dir/ready"
	on a env "GODWIT_TEST_STOP_AT=$1" "$GODWIT" migrate "$pid" b --max-freeze 60000 --ssh "$HOSTS ssh" --remote-path "$GODWIT" \
		>"$SHARED/$1-migrate.log" 2>&1 && fail "$1: the migration wasn't killed"
	wait_until settled
	[ "$(state_on "$2")" ] || fail "$1: it doesn't run on $2"
	on "$2" kill -USR1 "$pid"
	wait_for "$dir/verdict"
	[ "$(cat "$dir/verdict")" = pass ] || fail "$1: $(cat "$dir/verdict")"
	wait_gone "$2" "$pid"
}

killed_at frozen a
killed_at staying a
killed_at kept a
killed_at committed a
killed_at go b
killed_at answered b
