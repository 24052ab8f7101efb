#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 tid-taken.sh SUBJECT: the TID of one of the program's threads is in use where it is to be restored. The
# restore says by whom, ends, and leaves nothing behind; it works once the TID is free.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

dir=$SHARED/subject images=$SHARED/images
mkdir "$dir" "$images"
pid=$(start_on a "$SHARED/subject.log" "$subject" "$dir")
wait_for "$dir/ready"
tid=$(on_a ls "/proc/$pid/task" | sort -n | sed -n 3p)
on_a "$GODWIT" dump --tree "$pid" --images-dir "$images"
wait_gone a "$pid"

# Somebody else gets it.
on_a sh -c "echo $((tid - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 & echo \$! >$SHARED/holder"
[ "$(cat "$SHARED/holder")" = "$tid" ] || fail "TID $tid is not taken by $(cat "$SHARED/holder")"
if on_a timeout 60 "$GODWIT" restore --images-dir "$images" --restore-detached 2>"$SHARED/errors.log"; then
	fail "restored over a TID that is taken"
fi
grep -q "PID $tid is taken by sleep" "$SHARED/errors.log" || fail "the error doesn't name the holder"
wait_gone a "$pid"

on_a kill -KILL "$tid"
wait_gone a "$tid"
on_a "$GODWIT" restore --images-dir "$images" --restore-detached
on_a kill -USR1 "$pid"
wait_for "$dir/verdict"
[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
