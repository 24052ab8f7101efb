#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# bench.sh [NAME]...: `make bench`. Names are those of bench.py; without any, everything is measured.
set -eu
cd "$(dirname "$0")/../.."
build=$(cd "${BUILD:-build}" && pwd)
GODWIT=$build/godwit TOOLS=$build/tests
export GODWIT TOOLS
exec "$build/tests/hosts" run tests/bench/bench.py "$@"
