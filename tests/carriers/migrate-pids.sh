# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# Moved live into a PID namespace of its own, where its PID is taken on the other host: there it has another one for
# everybody but itself. And back, where it has its PID for all again.
carry() {
	# shellcheck disable=SC2016
	on b sh -c 'echo $(($1 - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 </dev/null >/dev/null 2>&1 & [ $! = $1 ]' \
		hold "$pid" || fail "PID $pid could not be taken on b"
	move b --pids new
	# The innermost of the numbers is its own. Some processes end while they are looked at.
	# shellcheck disable=SC2016
	original=$pid
	pid=$(on b sh -c 'sed -n "s/^NSpid:.\([0-9]*\).$1\$/\1/p" /proc/[0-9]*/status 2>/dev/null || true' find "$pid")
	[ "$pid" ] || fail "it isn't in a PID namespace of its own"
	move a
	pid=$original
}
