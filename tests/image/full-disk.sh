#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 full-disk.sh SUBJECT: where there is no room for all images none stays, also of those that were on disk
# already; the program runs on, and can be saved where there is room.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

dir=$SHARED/subject images=$SHARED/images
mkdir "$dir" "$images"
pid=$(start_on a "$SHARED/subject.log" "$subject" "$dir")
wait_for "$dir/ready"

# Its 150 objects of 128 kB take 19 MB.
for size_mb in 18 8 1; do
	on_a mount -t tmpfs -o "size=${size_mb}m" tmpfs "$images"
	! on_a "$GODWIT" dump --tree "$pid" --images-dir "$images" 2>"$SHARED/errors.log" || fail "$size_mb MB are enough"
	grep -q "No space left on device" "$SHARED/errors.log" || fail "$size_mb MB: no reason is told"
	grep -q "The program runs on" "$SHARED/errors.log" || fail "$size_mb MB: it isn't said that the program runs on"
	[ -z "$(on_a ls -A "$images")" ] || fail "$size_mb MB: $(on_a ls -A "$images") stay"
	on_a umount "$images"
done

on_a "$GODWIT" dump --tree "$pid" --images-dir "$images"
wait_gone a "$pid"
on_a "$GODWIT" restore --images-dir "$images" --restore-detached
on_a kill -USR1 "$pid"
wait_for "$dir/verdict"
[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
