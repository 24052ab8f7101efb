#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 other-vdso.sh PROGRAM: a program with the vDSO of another kernel can't go on here. That is found before it
# is stopped for good, also where no round goes before; and before anything of it is restored.
set -eu
program=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
state=$SHARED/state

is_counted() { [ "$(cat "$state")" = "$1" ]; }

pid=$(start_on a "$SHARED/program.log" "$program" other-vdso "$state")
wait_for "$state"
for rounds in 0 3; do
	! on_a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" --max-rounds "$rounds" \
		>"$SHARED/migrate.log" 2>&1 || fail "it is moved"
	grep -q "the program runs with the vDSO of another kernel build" "$SHARED/migrate.log" || fail "no reason is told"
	grep -q "round 1" "$SHARED/migrate.log" && fail "it was found too late"
	grep -q "The program runs on here" "$SHARED/migrate.log" || fail "it isn't said that the program runs on"
done
on_a kill -USR1 "$pid"
wait_until is_counted 1

mkdir "$SHARED/images"
on_a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images" || fail "dump"
! on_a "$GODWIT" restore --images-dir "$SHARED/images" -d 2>"$SHARED/restore.log" || fail "it is restored"
grep -q "the program runs with the vDSO of another kernel build" "$SHARED/restore.log" || fail "restore: no reason is told"
