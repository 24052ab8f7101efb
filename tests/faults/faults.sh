#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# BUILD=build faults.sh [N]: kill -9 at each phase of a migration, and at N random instants. `make faults` calls it.
set -eu
here=$(dirname "$0")
build=$(cd "${BUILD:-build}" && pwd)
export GODWIT="$build/godwit" TOOLS="$build/tests"
"$build/tests/hosts" run "$here/kill-moving.sh" phases
"$build/tests/hosts" run "$here/kill-moving.sh" random "${1:-1000}"
