#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run kill-moving.sh sample|tree|stopped|phases|random [N]: kill -9 of either side of a migration, of ssh, of whole sessions and of
# keepers, at each phase and at N random instants. After each exactly one copy runs, whole, and nothing is stray.
# shellcheck disable=SC2119 # the options of start_moving aren't ours
set -eu
tests=$(dirname "$0")/..
# shellcheck source=tests/faults/subject.sh
. "$tests/faults/subject.sh"

source_phases='recording begun greeted prepared round frozen locked held ready staying kept committed moved go answered ended done'
destination_phases='recording begun cloned prepared ready going outlives unlocked released runs'
[ "${SUBJECT:-ticker}" = ticker ] || destination_phases="$destination_phases outlives-in-part"

# at PHASE [WHO]: the process that comes to that phase kills itself; or it stops there, WHO is killed, and it goes on
at() {
	what="$1 ${2:-itself}"
	if [ $# -eq 1 ]; then
		export GODWIT_TEST_STOP_AT="$1"
		start_moving
	else
		export GODWIT_TEST_STOP_AT="$1:STOP"
		start_moving
		case $1 in destination-*) stopped=$to ;; *) stopped=$from ;; esac
		! reaches_phase "$stopped" || {
			strike "$2"
			continue_all "$stopped"
		}
	fi
	unset GODWIT_TEST_STOP_AT
	if [ "${2:-}" = keepers ]; then
		settle_by_hand
	else
		settle
	fi
	runs=$((runs + 1))
}

# Everything that could settle it is dead: it must stand still or run, once, and godwit resolve must end it.
settle_by_hand() {
	wait_until no_godwit
	case $(program_state a)/$(program_state b) in
	here/here | here/without* | without*/here) fail "$what: two copies: $(program_state a), $(program_state b)" ;;
	gone/gone) fail "$what: no copy" ;;
	esac
	for one in "$to" "$from"; do on "$one" "$GODWIT" resolve >>"$SHARED/resolve.log" 2>&1 || fail "$what: resolve: $?"; done
	settles_within 200 || {
		describe
		tail -n 5 "$SHARED/resolve.log"
		fail "$what: not settled by godwit resolve"
	}
	check_whole
}

# shellcheck disable=SC2016
no_godwit() {
	for one in a b; do
		! on "$one" sh -c 'ps -eo comm= | grep -qE "^(godwit|keeper)$"' || return 1
	done
}

# How long one takes that nobody disturbs, in microseconds
measure() {
	start=$(date +%s%N)
	what='an undisturbed one'
	start_moving
	wait_gone "$host" "$godwit"
	took_us=$((($(date +%s%N) - start) / 1000))
	settle
	[ "$host" = "$to" ] || fail "$what: $(cat "$log")"
}

# at_random WHO: while it is under way, or just after
at_random() {
	delay=$(awk -v "seed=$(od -An -N4 -tu4 /dev/urandom)" -v "us=$took_us" 'BEGIN { srand(seed); printf "%.6f", rand() * us / 1e6 }')
	what="$1 after $delay s"
	start_moving
	sleep "$delay"
	strike "$1"
	settle
	runs=$((runs + 1))
}

random() {
	left=$1
	while [ "$left" -gt 0 ]; do
		for who in source receive ssh session; do
			[ $((left -= 1)) -ge 0 ] || break
			at_random "$who"
			[ $((left % 100)) -ne 0 ] || echo "$left left, $needed of $runs needed godwit resolve"
		done
	done
}

runs=0
start_subject
measure
case $1 in
sample)
	for phase in recording frozen held kept committed moved go ended; do at "$phase"; done
	for phase in recording cloned prepared ready going outlives unlocked runs; do at "destination-$phase"; done
	for who in ssh receive session keepers; do at committed "$who"; done
	at staying keepers
	at go keepers
	random "${2:-8}"
	;;
tree)
	for phase in frozen committed destination-outlives-in-part destination-outlives; do at "$phase"; done
	for phase in outlives-in-part outlives unlocked; do at "destination-$phase" keepers; done
	random "${2:-2}"
	;;
# One that was stopped stays so, whoever finishes what had begun.
stopped)
	for phase in outlives unlocked runs; do at "destination-$phase"; done
	for phase in outlives unlocked; do at "destination-$phase" keepers; done
	;;
phases)
	for phase in $source_phases; do
		at "$phase"
		for who in session ssh receive both keepers; do at "$phase" "$who"; done
	done
	for phase in $destination_phases; do
		at "destination-$phase"
		for who in source ssh receive both keepers; do at "destination-$phase" "$who"; done
	done
	;;
random) random "${2:-1000}" ;;
*) fail "which? $1" ;;
esac
kill_report="$runs kills, $needed needed godwit resolve, none lost; slowest reply and replies: $(cat "$counter_report")"
echo "$kill_report"
[ $((needed * 1000)) -le "$runs" ] || fail "more than 1 in 1,000 needed godwit resolve"
