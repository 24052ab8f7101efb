#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 sealed-vdso.sh SUBJECT: a program is restored where the vDSO of a new task can't be moved, and is moved on
# from there.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
dir=$SHARED/subject
mkdir "$dir" "$SHARED/first" "$SHARED/second"

pid=$(start_on a "$SHARED/subject.log" "$subject" "$dir")
wait_for "$dir/ready"
before=$(on_a grep -F '[vdso]' "/proc/$pid/maps")
on_a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/first"
wait_gone a "$pid"
status=0
on_a env LD_PRELOAD="$TOOLS/libseal_vdso.so" "$GODWIT" restore --images-dir "$SHARED/first" --restore-detached ||
	status=$?
[ "$status" -ne 77 ] || { echo "mseal(2) is missing" && exit 77; }
[ "$status" -eq 0 ] || fail "restore: $status"
[ "$(on_a grep -F '[vdso]' "/proc/$pid/maps")" != "$before" ] || fail "the vDSO was moved: it isn't sealed"

# Twice, since it is elsewhere by now.
on_a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/second"
wait_gone a "$pid"
on_a "$GODWIT" restore --images-dir "$SHARED/second" --restore-detached
on_a kill -USR1 "$pid"
wait_for "$dir/verdict"
[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
