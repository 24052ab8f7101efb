#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run kill-terminals.sh SUBJECT: kill -9 of a dump while what waits in the subject's pseudoterminals is in its
# hands. The keeper puts it back: the subject finds all that it had.
set -eu
tests=$(dirname "$0")/..
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$tests/lib/hosts.sh"

dir=$SHARED/subject log=$SHARED/log status=0
mkdir "$dir" "$SHARED/images"
pid=$(start_on a "$SHARED/subject.log" "$subject" "$dir")
wait_for "$dir/ready"
GODWIT_TEST_STOP_AT=pty-taken on_a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images" >"$log" 2>&1 || status=$?
[ "$status" -ge 128 ] || fail "dump ended with status $status: $(cat "$log")"
no_keeper() { ! on_a pgrep -x keeper >/dev/null; }
wait_until no_keeper
on_a kill -USR1 "$pid"
wait_for "$dir/verdict"
[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
