#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run other-boot.sh SUBJECT: the program's clocks go on where the host has booted at another time. There and back:
# over there they are 5,000 s behind, and the boot has another name.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
# shellcheck source=tests/lib/carry.sh
. "$(dirname "$0")/../lib/carry.sh"

# In namespaces of its own: with what is started from it, the restored program sees other clocks than host a has.
cat >"$SHARED/late" <<-'END'
	#!/bin/sh
	echo 01234567-89ab-cdef-0123-456789abcdef >"$0.boot"
	exec unshare --time --monotonic -5000 --boottime -5000 --fork --mount sh -c '
		mount --bind "$0.boot" /proc/sys/kernel/random/boot_id && exec "$@"' "$0" "$@"
END
chmod +x "$SHARED/late"
on b "$SHARED/late" sh -c 'read -r up _ </proc/uptime; [ "${up%.*}" -ge 0 ]' || exit 77

# begin NAME SUBJECT: starts it on host a
begin() {
	dir=$SHARED/$1 host=a
	mkdir -p "$dir" "$SHARED/images"
	pid=$(start_on a "$SHARED/$1.log" "$2" "$dir")
	wait_for "$dir/ready"
}

look() {
	on "$host" kill -USR1 "$pid"
	wait_for "$dir/verdict"
	[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
	wait_gone "$host" "$pid"
}

restore_on_b() {
	on b "$SHARED/late" "$GODWIT" restore --images-dir "$SHARED/images/$1" --restore-detached \
		-v4 --log-file restore.log || fail "restore on the other host"
	host=b
}

begin restored "$1"
save one
wait_gone a "$pid"
restore_on_b one
look

# Saved over there, where it has a time namespace, and brought back to where it began.
begin back "$1"
save two
wait_gone a "$pid"
restore_on_b two
mkdir "$SHARED/images/three"
on b nsenter --target "$pid" --mount "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images/three" \
	-v4 --log-file dump.log || fail "dump on the other host"
wait_gone b "$pid"
host=a
bring_back three
look

begin moved "$1"
move b --remote-path "$SHARED/late $GODWIT"
look
