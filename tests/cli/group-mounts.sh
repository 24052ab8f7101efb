#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 group-mounts.sh SUBJECT: hosts differ in which control groups are mounted. Only those of version 2, none
# at all, or none that can be written: the program comes back, and the log says where it is.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

unified=$(on_a sed -nE '/ - cgroup2 /!d; s/^([^ ]+ ){4}([^ ]+) .*/\2/p' /proc/self/mountinfo | head -n 1)

# restored NAME MOUNT LINE: with that done to the mounts, in a namespace that ends with the restore and the program
restored() {
	mkdir "$SHARED/$1" "$SHARED/$1.images"
	pid=$(start_on a "$SHARED/$1.log" "$subject" "$SHARED/$1")
	wait_for "$SHARED/$1/ready"
	on_a "$GODWIT" dump -t "$pid" -D "$SHARED/$1.images"
	wait_gone a "$pid"
	on_a unshare --mount sh -eu -c "$2; exec \"\$@\"" sh "$GODWIT" restore -d -D "$SHARED/$1.images" -v4 -o restore.log
	grep -qE "$3" "$SHARED/$1.images/restore.log" ||
		fail "the log says: $(grep 'control group' "$SHARED/$1.images/restore.log")"
}
# check_lives NAME
check_lives() {
	on_a kill -USR1 "$pid"
	wait_for "$SHARED/$1/verdict"
	[ "$(cat "$SHARED/$1/verdict")" = pass ] || fail "$(cat "$SHARED/$1/verdict")"
	wait_gone a "$pid"
	echo "ok $1"
}

restored none "mount -t tmpfs tmpfs /sys/fs/cgroup" "stays .* none are mounted here"
check_lives none
if [ "$unified" ]; then
	restored unified "mount --rbind '$unified' /sys/fs/cgroup" "own \(godwit-[0-9]+-[0-9a-f]+\) in 1 hierarchies$"
	group=$(on_a sed -n 's/^0:://p' "/proc/$pid/cgroup")
	case $group in
	*/godwit-"$pid"-*) ;;
	*) fail "it is in $group" ;;
	esac
	check_lives unified
	on_a rmdir "$unified/${group##*/}" || true # any other restore on the machine may have been faster
	restored locked "mount --rbind '$unified' /sys/fs/cgroup && mount -o remount,ro,bind /sys/fs/cgroup" \
		"it stays in that of godwit in /sys/fs/cgroup \(Read-only file system\)"
	check_lives locked
fi
