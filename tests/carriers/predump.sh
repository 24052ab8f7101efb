# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# A chain: two pre-dumps, then the dump that has only what changed since.
carry() {
	mkdir "$SHARED/images/one" "$SHARED/images/two"
	on a "$GODWIT" pre-dump --tree "$pid" --images-dir "$SHARED/images/one" -v4 --log-file dump.log || fail "pre-dump"
	on a "$GODWIT" pre-dump --tree "$pid" --images-dir "$SHARED/images/two" --prev-images-dir ../one \
		-v4 --log-file dump.log || fail "second pre-dump"
	save three --track-mem --prev-images-dir ../two
	wait_gone a "$pid"
	bring_back three
}
