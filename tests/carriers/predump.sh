# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# save_memory NAME [OPTION]...: by a pre-dump
save_memory() {
	name=$1
	shift
	# shellcheck disable=SC2086
	on a "$GODWIT" pre-dump --tree "$pid" --images-dir "$SHARED/images/$name" --tcp-established \
		-v4 --log-file dump.log ${GODWIT_OPTIONS:-} "$@" || fail "pre-dump into $name"
}

# A chain: two pre-dumps, then the dump that has only what changed since.
carry() {
	mkdir "$SHARED/images/one" "$SHARED/images/two"
	save_memory one
	save_memory two --prev-images-dir ../one
	save three --track-mem --prev-images-dir ../two
	wait_gone a "$pid"
	bring_back three
}
