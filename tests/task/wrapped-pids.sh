#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run wrapped-pids.sh SUBJECT: a program whose threads have lower numbers than it has itself, as many have on a host
# that has been up for long.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

dir=$SHARED/subject images=$SHARED/images
mkdir "$dir" "$images"
last=$(on_a cat /proc/sys/kernel/pid_max)
on_a sh -c "echo $((last - 5)) >/proc/sys/kernel/ns_last_pid"
pid=$(start_on a "$SHARED/subject.log" "$1" "$dir")
wait_for "$dir/ready"
lowest=$(on_a sh -c "cd /proc/$pid/task && printf '%s\n' * | sort -n | head -1")
[ "$lowest" -lt "$pid" ] || fail "the lowest thread of $pid is $lowest"
on_a "$GODWIT" dump --tree "$pid" --images-dir "$images" || fail "dump"
wait_gone a "$pid"
on_a "$GODWIT" restore --images-dir "$images" --restore-detached || fail "restore"
on_a kill -USR1 "$pid"
wait_for "$dir/verdict"
[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
