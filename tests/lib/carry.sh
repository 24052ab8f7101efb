# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# What carriers are made of: each step carries the program $pid on $host. GODWIT_OPTIONS has what a subject needs
# besides (--shell-job for one with a terminal).

on() { "$HOSTS" on "$@"; }

# save NAME [OPTION]...: into a folder of this name
save() {
	name=$1
	shift
	mkdir -p "$SHARED/images/$name"
	# shellcheck disable=SC2086
	on "$host" "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images/$name" --tcp-established \
		-v4 --log-file dump.log ${GODWIT_OPTIONS:-} "$@" || fail "dump into $name: $?"
}

# bring_back NAME: from that folder, on $host
bring_back() {
	# shellcheck disable=SC2086
	on "$host" "$GODWIT" restore --images-dir "$SHARED/images/$1" --restore-detached --tcp-established \
		-v4 --log-file restore.log ${GODWIT_OPTIONS:-} || fail "restore of $1"
}

# family HOST: the PIDs of the program there and of all its descendants
family() {
	on "$1" sh -c "list() { echo \$1; for child in \$(cat /proc/\$1/task/*/children); do list \$child; done; }
		list $pid"
}

# end_original HOST: kills the program there, with its descendants, and waits until its PIDs are free
end_original() {
	original=$(family "$1")
	# The end of the first one may already have been that of others: of a session whose terminal it held.
	# shellcheck disable=SC2086
	on "$1" kill -KILL $original || :
	for one in $original; do
		wait_gone "$1" "$one"
	done
}

# move HOST [OPTION]...: live migration from $host. How long the freeze takes is up to the scheduler, and on a busy machine
# that may be more than --max-freeze allows unless told otherwise; what is looked at here is that programs come whole.
move() {
	to=$1
	shift
	# shellcheck disable=SC2086
	on "$host" "$GODWIT" migrate "$pid" "$to" --max-freeze 60000 --ssh "$HOSTS ssh" --remote-path "$GODWIT" \
		${GODWIT_OPTIONS:-} "$@" || fail "migrate from $host to $to"
	wait_gone "$host" "$pid"
	host=$to
}
