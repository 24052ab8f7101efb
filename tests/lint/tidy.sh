#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# tidy.sh ROOT BUILD: clang-tidy over the C files that differ from the last commit but one; with TIDY=all over all of
# them, for minutes. Fuzz targets are left out: they are compiled in another build.
set -eu
cd "$1"
build=$2

changed() {
	git rev-parse -q --verify HEAD~1 >/dev/null 2>&1 || exit 77 # meson's number for a test that was skipped
	git diff --name-only --diff-filter=d HEAD~1 -- src tests
}

if [ "${TIDY:-changed}" = all ]; then
	files=$(find src tests -name '*.c')
else
	files=$(changed)
fi
printf '%s\n' "$files" | grep '\.c$' | grep -v '^tests/fuzz/' |
	xargs -r -n 1 -P "$(nproc)" clang-tidy --quiet --extra-arg=-Wno-unknown-warning-option -p "$build" 2>/dev/null
