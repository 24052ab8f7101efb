#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 own-group.sh SUBJECT: godwit receive and godwit restore run in control groups that then end with all that
# is in them, as when systemd stops ssh. The program is in groups of its own and lives. What a failed restore and ended
# programs leave is removed; while it is built, the program is the first to go when memory runs out.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

session=ssh-$(cat /proc/sys/kernel/random/uuid) # the hierarchies are those of the whole machine
# All hierarchies in which a group can be made, but those that hold a program at their top: src/task/cgroup.h.
tops=$(on_b sed -nE '/ - cgroup/!d; / - cgroup .*[ ,](cpu|cpuset)(,|$)/d; s/^([^ ]+ ){4}([^ ]+) .*/\2/p' /proc/self/mountinfo |
	sort -u)
cat >"$SHARED/in-session" <<'SCRIPT'
#!/bin/sh
# in-session PROGRAM [ARG]...: in groups of that name, together with someone else
set -eu
for top in $TOPS; do
	! [ -e "$top/cgroup.procs" ] || { mkdir -p "$top/$SESSION" && echo $$ >"$top/$SESSION/cgroup.procs"; }
done
sleep 1000 </dev/null >/dev/null 2>&1 &
exec "$@"
SCRIPT
cat >"$SHARED/remote" <<SCRIPT
#!/bin/sh
TOPS='$tops' SESSION=$session exec sh $SHARED/in-session $GODWIT "\$@"
SCRIPT
chmod +x "$SHARED/remote"

# The groups of this name that are there.
groups() {
	for top in $tops; do
		on_b find "$top" -maxdepth 1 -type d -name "$1"
	done
}
# The name that the groups of a program have. Programs of other hosts may have the same PID.
home_of() { on_b sed -n "s#.*/\\(godwit-$1-[0-9a-f]*\\)\$#\1#p" "/proc/$1/cgroup" | sort -u; }
members() {
	for group in $(groups "$session"); do on_b cat "$group/cgroup.procs"; done | sort -nu
}
is_empty() { [ -z "$(members)" ]; }
is_gone() { [ -z "$(groups "$1")" ]; }
end_session() {
	[ "$(members)" ] || fail "nobody is in the session: it proves nothing"
	for member in $(members); do on_b kill -9 "$member" || true; done # it may have ended
	wait_until is_empty
	for group in $(groups "$session"); do on_b rmdir "$group"; done
}
# check_home PID: sets $home
check_home() {
	home=$(home_of "$1")
	[ "$(echo "$home" | wc -w)" -eq 1 ] || fail "not one group of its own: $(on_b cat "/proc/$1/cgroup")"
	! on_b grep "/$session" "/proc/$1/cgroup" || fail "$1 is in the group of its session"
	for group in $(groups "$home"); do
		[ "$(on_b cat "$group/cgroup.procs")" = "$1" ] || fail "$1 isn't in $group, or isn't alone"
	done
}
# check_lives PID FOLDER
check_lives() {
	on_b kill -USR1 "$1"
	wait_for "$2/verdict"
	[ "$(cat "$2/verdict")" = pass ] || fail "$(cat "$2/verdict")"
	wait_gone b "$1"
}
# start HOST FOLDER
start() {
	mkdir "$2"
	pid=$(start_on "$1" "$2.log" "$subject" "$2")
	wait_for "$2/ready"
}

usable=
for top in $tops; do
	if on_b mkdir "$top/$session" 2>/dev/null; then
		on_b rmdir "$top/$session"
		usable=1
	fi
done
[ "$usable" ] || {
	echo "SKIP: no control groups can be made here"
	exit 77
}

start a "$SHARED/moved"
moved=$pid
on_a "$GODWIT" migrate "$moved" b --max-freeze 60000 --ssh "$HOSTS ssh" --remote-path "$SHARED/remote"
check_home "$moved"
moved_home=$home
end_session
check_lives "$moved" "$SHARED/moved"

start b "$SHARED/saved"
mkdir "$SHARED/images"
on_b "$GODWIT" dump -t "$pid" -D "$SHARED/images"
wait_gone b "$pid"
cat >"$SHARED/refuse" <<SCRIPT
#!/bin/sh
[ "\$CRTOOLS_SCRIPT_ACTION" != post-setup-namespaces ] || cat "/proc/\$CRTOOLS_INIT_PID/oom_score_adj" >"$SHARED/score"
[ "\$CRTOOLS_SCRIPT_ACTION" != post-setup-namespaces ] || cat "/proc/\$CRTOOLS_INIT_PID/cgroup" >"$SHARED/groups"
[ "\$CRTOOLS_SCRIPT_ACTION" != post-restore ]
SCRIPT
chmod +x "$SHARED/refuse"
! on_b "$GODWIT" restore -d -D "$SHARED/images" --action-script "$SHARED/refuse" || fail "a script couldn't refuse"
[ "$(cat "$SHARED/score")" = 1000 ] || fail "half built it had the oom_score_adj $(cat "$SHARED/score")"
home=$(grep -o "godwit-$pid-[0-9a-f]*" "$SHARED/groups" | sort -u)
[ "$home" ] || fail "half built it had no groups of its own: $(cat "$SHARED/groups")"
is_gone "$home" || fail "the failed restore has left $(groups "$home")"
is_gone "$moved_home" || fail "of an ended program there is still $(groups "$moved_home")"
# The keeper leaves the session, too: it outlives what ends it as a whole, and undoes what has to be undone.
is_out() { ! on_b grep -E "^0:|name=systemd" "/proc/$1/cgroup" | grep "/$session"; }
GODWIT_TEST_STOP_AT=restored:STOP on_b "$SHARED/remote" restore -d -D "$SHARED/images" &
restoring=$!
wait_until on_b pgrep -x keeper
wait_until is_out "$(on_b pgrep -x keeper)"
end_session
! wait $restoring || fail "it was not killed"
wait_gone b "$pid"

on_b "$SHARED/remote" restore -d -D "$SHARED/images"
check_home "$pid"
own=$(on_b cat /proc/self/oom_score_adj)
[ "$(on_b cat "/proc/$pid/oom_score_adj")" = "$own" ] || fail "its oom_score_adj isn't $own any more"
end_session
check_lives "$pid" "$SHARED/saved"
# Or some other godwit does it meanwhile.
for group in $(groups "$home"); do on_b rmdir "$group" || :; done
is_gone "$home" || fail "$(groups "$home") can't be removed"
