#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# BUILD=build faults.sh [N]: kill -9 at each phase of all that moves, saves and restores, and at N random instants of it, of
# the task layer, and what else can be wrong. `make faults` calls it; docs/reliability.md has what came of it.
set -eu
here=$(dirname "$0")
build=$(cd "${BUILD:-build}" && pwd)
count=${1:-1000}
export GODWIT="$build/godwit" TOOLS="$build/tests"

run() {
	script=$here/$1
	shift
	"$build/tests/hosts" run "$script" "$@"
}

BUILD=$build "$here/hijack.sh" "$count"
run bad.sh
run resolve.sh
run kill-moving.sh phases
run kill-saving.sh phases
run kill-moving.sh random "$count"
run kill-saving.sh random $((count / 3))
export SUBJECT=tree_ticker
run kill-moving.sh phases
run kill-saving.sh phases
run kill-moving.sh random "$count"
run kill-saving.sh random $((count / 3))
WITH_STOPPED=yes run kill-moving.sh stopped
