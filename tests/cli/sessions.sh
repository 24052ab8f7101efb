#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 sessions.sh: session and process group are the same after a move, and after a restore there: of a program
# that leads both, and of programs whose leaders have ended.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
host=a
on() { "$HOSTS" on "$@"; }

# groups_of PID: its process group and session, fields 5 and 6 of proc_pid_stat(5)
groups_of() { on "$host" sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f3,4; }

# start_by COMMANDS: bash, which has jobs without a terminal, runs them. They leave the PID in the file program, and end
start_by() {
	rm -f "$SHARED/program"
	leader=$(start_on "$host" "$SHARED/leader.log" bash -c "cd $SHARED; $1")
	wait_for "$SHARED/program"
	wait_gone "$host" "$leader"
	pid=$(cat "$SHARED/program")
}

# check WHAT: carries the program twice
check() {
	before=$(groups_of "$pid")
	on "$host" "$GODWIT" migrate "$pid" b --max-freeze 60000 --ssh "$HOSTS ssh" --remote-path "$GODWIT" >"$SHARED/$1.log" 2>&1 ||
		fail "$1: migrate"
	host=b
	[ "$(groups_of "$pid")" = "$before" ] || fail "$1: moved: $(groups_of "$pid"), not $before"
	on "$host" "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/$1" || fail "$1: dump"
	wait_gone "$host" "$pid"
	on "$host" "$GODWIT" restore --images-dir "$SHARED/$1" --restore-detached || fail "$1: restore"
	[ "$(groups_of "$pid")" = "$before" ] || fail "$1: restored: $(groups_of "$pid"), not $before"
	on "$host" kill -KILL "$pid"
	host=a
}
mkdir "$SHARED/leads" "$SHARED/orphan" "$SHARED/group" "$SHARED/job"

pid=$(start_on a "$SHARED/sleep.log" sleep 1000)
[ "$(groups_of "$pid")" = "$pid $pid" ] || fail "it leads neither session nor group"
check leads

start_by 'sleep 1000 & echo $! >new; mv new program'
[ "$(groups_of "$pid")" = "$leader $leader" ] || fail "its session isn't that of PID $leader"
check orphan

start_by 'set -m; sleep 1000 & echo $! >new; mv new program'
[ "$(groups_of "$pid")" = "$pid $leader" ] || fail "it has no group of its own"
check group

# In the group of a third one, which has ended, too.
start_by 'set -m; bash -c "sleep 1000 & echo \$! >new"; mv new program'
case $(groups_of "$pid") in
"$pid $leader" | "$leader $leader") fail "its group is that of its leader, or its own" ;;
*" $leader") ;;
*) fail "its session isn't that of PID $leader" ;;
esac
check job
