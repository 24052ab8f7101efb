#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# crit.sh WRITE-SAMPLES: CRIU's own tool must understand an image of every kind, and find in it what we put there.
set -eu
write_samples=$1
command -v crit >/dev/null || exit 77

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$write_samples" "$dir"

failed=0
fail() {
	echo "$1"
	failed=1
}

# Fails unless crit's account of an image, without white space, has that in it.
expect() {
	crit show "$dir/$1" | tr -d ' \n' >"$dir/shown"
	grep -q -F -e "$2" "$dir/shown" || fail "$1: no $2 in $(head -c 2000 "$dir/shown")"
}

count=0
for image in "$dir"/*; do
	name=${image##*/}
	case $name in
	pages-*) continue ;;   # has no magic: bytes alone
	*.godwit) continue ;; # ours: what the messages of CRIU have no field for
	esac
	count=$((count + 1))
	crit decode -i "$image" -o "$dir/decoded" 2>"$dir/log" || fail "crit decode $name: $(cat "$dir/log")"
	crit show "$image" >/dev/null 2>"$dir/log" || fail "crit show $name: $(cat "$dir/log")"
	case $name in
	ipcns-shm-*) continue ;; # crit can't write those again: it takes what is behind them for text
	esac
	# Written again by crit it is the same, byte for byte, unless we write fields that only newer versions have.
	crit encode -i "$dir/decoded" -o "$dir/encoded" 2>"$dir/log" || fail "crit encode $name: $(cat "$dir/log")"
	case $name in
	core-* | files.img | inventory.img | memfd.img | pagemap-*) ;;
	*) cmp "$image" "$dir/encoded" || fail "$name: not the same after crit decode and encode" ;;
	esac
	rm -f "$dir/decoded" "$dir/encoded" "$dir/log"
done
[ "$count" -ge 24 ] || fail "only $count images were written"

expect inventory.img '"magic":"INVENTORY"'
expect core-4660.img '"clear_tid_addr":"0x108"'
expect core-4660.img '"sigactions":[{'
expect files.img '"type":"AUTOFS_PIPE"'
expect pagemap-4660.img '"pages_id":7'
expect pagemap-4660.img '"vaddr":"0x10000","nr_pages":3,"flags":"PE_PRESENT"'
expect pagemap-4660.img '"vaddr":"0x20000","nr_pages":5,"flags":"PE_PARENT"'
expect stats-dump '"frozen_time":521'
exit $failed
