#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# install.sh BUILD ROOT: installs into an empty folder, and fails if the program, a manual page or the completion is missing.
set -eu
build=$1 root=$2
to=$(mktemp -d)
trap 'rm -rf "$to"' EXIT

meson install -C "$build" --no-rebuild --destdir "$to" >"$to/log" || {
	cat "$to/log"
	exit 1
}
for page in "$root"/docs/*.scd; do
	name=$(basename "$page" .scd)
	[ -n "$(find "$to" -path "*/man/man${name##*.}/$name" -size +0)" ] || {
		echo "$name isn't installed"
		exit 1
	}
done
[ -n "$(find "$to" -path '*/bash-completion/completions/godwit' -size +0)" ]
"$(find "$to" -path '*/sbin/godwit')" --version
