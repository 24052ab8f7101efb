#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run limits.sh: a godwit that may not raise hard limits restores a program with the lower ones that it has itself,
# but not one that may depend on more.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

images=$SHARED/images
mkdir "$images"
limits() { on_a sed -n 's/^Max open files *\([0-9]*\) *\([0-9]*\) .*/\1 \2/p' "/proc/$pid/limits"; }

has_limits() { [ "$(limits)" = "$1" ]; }

# restore_with SOFT:HARD, of open files, and without CAP_SYS_RESOURCE
restore_with() {
	on_a setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource prlimit --nofile="$1" \
		"$GODWIT" restore --images-dir "$images" --restore-detached 2>"$SHARED/errors.log"
}

pid=$(start_on a "$SHARED/program.log" prlimit --nofile=300:500 sleep 1000)
wait_until has_limits "300 500"
on_a "$GODWIT" dump --tree "$pid" --images-dir "$images"
wait_gone a "$pid"

! restore_with 100:200 || fail "restored with fewer open files than it may have"
grep -q "its limit of open files is 300, and godwit may give it 200 at most" "$SHARED/errors.log" ||
	fail "the error doesn't name the limit"
grep -q CAP_SYS_RESOURCE "$SHARED/errors.log" || fail "no hint"
restore_with 100:400 || fail "not restored: $(cat "$SHARED/errors.log")"
[ "$(limits)" = "300 400" ] || fail "limits are $(limits)"
on_a kill -KILL "$pid"
