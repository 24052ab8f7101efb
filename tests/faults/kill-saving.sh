#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run kill-saving.sh sample|phases|random [N]: kill -9 of dump, of pre-dumps in a chain, and of restore, at each of
# their phases and at N random instants. The program runs on unharmed, or it is saved and can be restored whole; nothing is
# stray.
set -eu
tests=$(dirname "$0")/..
# shellcheck source=tests/faults/subject.sh
. "$tests/faults/subject.sh"

images=$SHARED/images
dump_phases='frozen locked held pages images kept'
predump_phases='frozen tracked pages'
restore_phases='built filled restored outlives unlocked'
[ "${SUBJECT:-ticker}" = ticker ] || restore_phases="$restore_phases outlives-in-part"
runs=0

new_folder() {
	rm -rf "${images:?}"
	mkdir "$images" "$images/one" "$images/two"
}

# command_of KIND: the words, in $command, and the folder that it works on, in $folder
command_of() {
	folder=$images/one
	case $1 in
	dump) command="dump --tree $pid" ;;
	running) command="dump --tree $pid --leave-running" ;;
	stopped) command="dump --tree $pid --leave-stopped" ;;
	first-predump) command="pre-dump --tree $pid" ;;
	predump) command="pre-dump --tree $pid --prev-images-dir ../one" folder=$images/two ;;
	chained) command="dump --tree $pid --prev-images-dir ../one --track-mem" folder=$images/two ;;
	restore) command='restore --restore-detached' ;;
	*) fail "what? $1" ;;
	esac
	command="$command --images-dir $folder --tcp-established"
}

run_whole() { # KIND
	command_of "$1"
	# shellcheck disable=SC2086
	on a "$GODWIT" $command >"$log" 2>&1 || fail "$what: $1: $(cat "$log")"
}

# What has to be there before KIND can begin: a folder, a link of a chain, images of a program that has ended.
prepare() {
	new_folder
	case $1 in
	predump | chained) run_whole first-predump ;;
	restore)
		run_whole dump
		wait_gone a "$pid"
		;;
	esac
}

# at PHASE KIND: it kills itself there
at() {
	what="$2 at $1"
	prepare "$2"
	command_of "$2"
	status=0
	# shellcheck disable=SC2086
	GODWIT_TEST_STOP_AT=$1 on a "$GODWIT" $command >"$log" 2>&1 || status=$?
	[ "$status" -ge 128 ] || fail "$what: ended with status $status: $(cat "$log")"
	settle_saving "$2"
}

# The kill may come too late: then all went well, which is looked at as closely.
at_random() { # KIND
	prepare "$1"
	took=0
	eval "took=\$took_${1%-*}"
	delay=$(awk -v "seed=$(od -An -N4 -tu4 /dev/urandom)" -v "us=$took" 'BEGIN { srand(seed); printf "%.6f", rand() * us / 1e6 }')
	what="$1 after $delay s"
	command_of "$1"
	: >"$log"
	# shellcheck disable=SC2086
	godwit=$(start_on a "$log" "$GODWIT" $command)
	sleep "$delay"
	on a kill -KILL "$godwit" 2>/dev/null || :
	wait_gone a "$godwit"
	settle_saving "$1"
}

# In microseconds, in $took_KIND; of what nobody disturbs
measure() { # KIND
	what='an undisturbed one'
	prepare "$1"
	start=$(date +%s%N)
	run_whole "$1"
	eval "took_${1%-*}=$((($(date +%s%N) - start) / 1000))"
	settle_saving "$1"
}

# ---- Afterwards ----

# Nothing is there but the lock of the saved program, which stays until it is restored.
is_saved() {
	[ "$(program_state a)" = gone ] &&
		[ "$(plain_state a | sed "/^table inet godwit-$pid-0\$/d")" = "$(cat "$SHARED/plain-a")" ]
}

# One that was to be left stopped, whether or not the command came to its end
is_stopped() { [ "$(program_state a)" = stopped ] && ! on a pgrep -x 'godwit|keeper' >/dev/null; }

# A tracker stays between two links, as it should: the dump at the end of the chain ends it.
no_tracker() { ! on a pgrep -x godwit-tracker >/dev/null; }

# How it ended, in $end: runs, saved or stopped
wait_for_end() {
	tries=400
	while :; do
		case $1 in
		first-predump | predump | chained) ! runs_tracked || break ;;
		*) ! is_settled || break ;;
		esac
		! is_saved || { end=saved && return; }
		! { [ "$1" = stopped ] && is_stopped; } || { end=stopped && return; }
		[ $((tries -= 1)) -gt 0 ] || {
			describe
			fail "$what: neither runs nor is saved, or something is stray"
		}
		sleep 0.05
	done
	end=runs
}

runs_tracked() {
	[ "$(program_state a)" = here ] && [ "$(plain_state a | sed '/^task godwit-tracker$/d')" = "$(cat "$SHARED/plain-a")" ]
}

# Images that are there are whole, or restore says that they aren't.
bring_back() {
	on a "$GODWIT" restore --images-dir "$1" --restore-detached --tcp-established >"$log" 2>&1 ||
		fail "restore after $what: $(cat "$log")"
}

settle_saving() { # KIND
	wait_for_end "$1"
	case $end in
	saved) case $1 in
		chained) bring_back "$images/two" ;;
		*) bring_back "$images/one" ;;
		esac ;;
	stopped) on a "$GODWIT" resolve --thaw "$pid" >"$log" 2>&1 || fail "$what: resolve --thaw: $(cat "$log")" ;;
	esac
	case $1 in first-predump | predump | chained) end_chain ;; esac
	settles_within 400 || {
		describe
		fail "$what: not as before"
	}
	check_whole
	runs=$((runs + 1))
}

# A chain that was cut gives no wrong pages to the dump that is its next link.
end_chain() {
	last=$images/last
	mkdir "$last"
	[ -e "$images/two/pagemap-$pid.img" ] && previous=two || previous=one
	[ -e "$images/$previous/pagemap-$pid.img" ] || return 0
	on a "$GODWIT" dump --tree "$pid" --images-dir "$last" --prev-images-dir "../$previous" --tcp-established >"$log" 2>&1 ||
		fail "dump behind $what: $(cat "$log")"
	wait_gone a "$pid"
	bring_back "$last"
	wait_until no_tracker
}

# The memory of trees is only saved whole: no chains.
kinds='dump running stopped first-predump predump chained restore'
has_chains() { [ "$subject" = ticker ]; }
has_chains || kinds='dump running stopped restore'

random() {
	left=$1
	for kind in $kinds; do measure "$kind"; done
	while [ "$left" -gt 0 ]; do
		for kind in $kinds; do
			[ $((left -= 1)) -ge 0 ] || break
			at_random "$kind"
			[ $((left % 100)) -ne 0 ] || echo "$left left"
		done
	done
}

start_subject
case $1 in
sample)
	for phase in locked images committed; do at "$phase" dump; done
	at held running
	for phase in kept left; do at "$phase" stopped; done
	! has_chains || at frozen first-predump
	! has_chains || at pages predump
	for phase in filled restored outlives unlocked; do at "$phase" restore; done
	has_chains || at outlives-in-part restore
	;;
phases)
	for phase in $dump_phases; do
		at "$phase" dump
		at "$phase" stopped
		! has_chains || at "$phase" chained
	done
	for phase in frozen locked held pages; do at "$phase" running; done
	at committed dump
	! has_chains || at committed chained
	at left stopped
	! has_chains || for phase in $predump_phases; do at "$phase" first-predump; done
	! has_chains || at pages predump
	for phase in $restore_phases; do at "$phase" restore; done
	;;
random) random "${2:-100}" ;;
*) fail "which? $1" ;;
esac
echo "$runs kills, none lost; slowest reply and replies: $(cat "$counter_report")"
