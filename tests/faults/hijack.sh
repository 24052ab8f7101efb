#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# BUILD=DIR hijack.sh [KILLS]: kill -9 at so many random instants of a program that holds another one by the task layer,
# with 1 and with 5 threads, and a tenth as many with 1,000. tests/task/kills.c tells what must hold after each.
set -eu
build=${BUILD:-build} kills=${1:-1000}

for row in "1 $kills" "5 $kills" "1000 $((kills / 10 + 1))"; do
	# shellcheck disable=SC2086 # two words
	"$build/tests/kills" "$build/tests/hijack" $row | grep -v 'threads: stop' || exit 1
done
