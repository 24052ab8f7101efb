# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# For scripts that `hosts run` started: . "$(dirname "$0")/../lib/hosts.sh"
# HOSTS is the program, SHARED a folder that all hosts see, GODWIT the godwit to be tested (from tests/meson.build).

on_a() { "$HOSTS" on a "$@"; }
on_b() { "$HOSTS" on b "$@"; }
on_client() { "$HOSTS" on client "$@"; }

# start_on HOST LOG PROGRAM [ARG]...: leaves it running in a session of its own and prints its PID there
start_on() { "$HOSTS" start "$@"; }

fail() {
	echo "FAIL: $*"
	exit 1
}

# On failure: the end of every log in $SHARED.
show_logs() {
	[ "$1" -ne 0 ] || return 0
	find "$SHARED" -name '*.log' -size +0 | while read -r log; do
		echo "--- $log"
		tail -n 100 "$log"
	done
}
trap 'show_logs $?' EXIT

# wait_for FILE: the machine may be busy, so the limit is for what never comes
wait_for() { "$HOSTS" wait "$1" "${2:-30}" || fail "$1 did not come"; }

# wait_gone HOST PID
wait_gone() { "$HOSTS" on "$1" "$HOSTS" gone "$2" 30 || fail "PID $2 on $1 did not end"; }

# wait_until PROGRAM [ARG]...: for conditions that no file shows
wait_until() {
	tries_left=3000
	until "$@" >/dev/null 2>&1; do
		[ $((tries_left -= 1)) -gt 0 ] || fail "never came true: $*"
		sleep 0.01
	done
}
