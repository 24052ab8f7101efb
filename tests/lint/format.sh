#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# format.sh ROOT: fails on C files that aren't as clang-format makes them, and on what shellcheck finds in scripts.
set -eu
cd "$1"
failed=0
find src tests -name '*.[ch]' -exec clang-format --dry-run -Werror {} + || failed=1
# shellcheck disable=SC2046 # no names with spaces here
shellcheck -x $(find tests demo -name '*.sh') docs/godwit.bash .ci/run .ci/deps || failed=1
exit $failed
