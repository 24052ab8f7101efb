#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 trees.sh: a process tree is one program. Whenever godwit is killed all of it goes on, or nothing of it
# once its end has begun; left stopped, all of it goes on by resolve --thaw; and it is moved while processes come and go.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
# shellcheck source=tests/lib/carry.sh
. "$(dirname "$0")/../lib/carry.sh"
program=$(dirname "$0")/trees.py
folder=$SHARED/tree
names="root child grandchild storm-child"
host=a

start() {
	rm -rf "$folder"
	mkdir "$folder"
	pid=$(start_on "$host" "$SHARED/tree.log" /usr/bin/python3 -S "$program" "$folder")
	wait_for "$folder/ready"
	# shellcheck disable=SC2086
	for name in $names; do
		wait_for "$folder/$name"
	done
}

has_counted() { [ "$(cat "$folder/$1")" != "$2" ]; }

# All of them run.
check_running() {
	for name in $names; do
		wait_until has_counted "$name" "$(cat "$folder/$name")"
	done
}

# But for a zombie. A stop is seen by each in its own time.
is_stopped() { on "$host" grep -q '^State:.[TZ]' "/proc/$1/status"; }

# dump PHASE OPTION: killed there
dump_killed() {
	rm -rf "$SHARED/images"
	mkdir "$SHARED/images"
	! on a env GODWIT_TEST_STOP_AT="$1" "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images" "$2" ||
		fail "dump is not killed at $1"
}

start
before=$(family a)
for phase in frozen pages images; do
	dump_killed "$phase" --leave-running
	check_running
done
for phase in kept left; do
	dump_killed "$phase" --leave-stopped
	check_running
done
for phase in prepared round frozen held ready staying kept; do
	! on a env GODWIT_TEST_STOP_AT="$phase" "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" ||
		fail "migrate is not killed at $phase"
	check_running
	wait_until sh -c "! $HOSTS on b pgrep -f trees.py"
done
[ "$(family a)" = "$before" ] || fail "the tree is another one: $(family a), not $before"
echo "ok all of a tree goes on when godwit is killed"

rm -rf "$SHARED/images"
mkdir "$SHARED/images"
on a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images" --leave-stopped || fail "dump --leave-stopped"
for one in $before; do
	wait_until is_stopped "$one"
done
on a "$GODWIT" resolve --thaw "$pid" || fail "resolve --thaw"
check_running
echo "ok all of a tree goes on by resolve --thaw"

touch "$folder/storm"
move b
check_running
move a
check_running
rm "$folder/storm"
[ ! -e "$folder/lost" ] || fail "lost: $(cat "$folder/lost")"
touch "$folder/stop"
wait_for "$folder/status"
[ "$(cat "$folder/status")" = 1792 ] || fail "the status of the zombie is $(cat "$folder/status")"
wait_gone a "$pid"
echo "ok a tree moves while processes come and go"

start
family=$(family a)
dump_killed committed --shell-job
for one in $family; do
	wait_gone a "$one"
done
echo "ok the end that had begun is the end of all"
