# shellcheck shell=sh disable=SC2034,SC2153,SC2154
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# A program with connected clients between two hosts, and what must be true of it after each fault. Sourced by scripts
# that `hosts run` started; $GODWIT and $TOOLS come from tests/meson.build.
#
# $host is where the program runs, $other the other host; $pid is the same on both. SUBJECT is its name: ticker, which is one
# process, or tree_ticker; $processes has all of them (with WITH_STOPPED=yes one that is stopped, too), each as PID:STATE, with a state as tree_ticker.c tells.
tests=${tests:-$(dirname "$0")/..}
# shellcheck source=tests/lib/hosts.sh
. "$tests/lib/hosts.sh"

service=10.77.0.100
dir=$SHARED/ticker
subject=${SUBJECT:-ticker}
counter_report=$SHARED/counter.json
log=$SHARED/godwit.log
host=a other=b
reports=0 replies=0

on() { "$HOSTS" on "$@"; }

start_subject() {
	mkdir "$dir"
	on a ip addr add "$service/24" dev eth0
	on a arping -q -U -c 1 -I eth0 "$service"
	case $subject in
	tree_ticker) set -- ${WITH_STOPPED:+-s} "$service" ;;
	*) set -- -m 8 -d 2 -t 3 -f 5 -c 2 -l "$service" ;;
	esac
	pid=$(start_on a "$SHARED/ticker.log" "$TOOLS/$subject" "$@" "$dir")
	wait_for "$dir/ready"
	processes=$(sed 's/^\([0-9]*\)$/\1 R/; s/ /:/' "$dir/ready" | tr '\n' ' ')
	counter=$(start_on client "$SHARED/counter.log" "$TOOLS/counter_client" -h "$service" -c 4 -r "$counter_report")
	plain_state >"$SHARED/plain-a"
	plain_state b >"$SHARED/plain-b"
	cmp -s "$SHARED/plain-a" "$SHARED/plain-b" || {
		diff "$SHARED/plain-a" "$SHARED/plain-b" || :
		fail "the hosts differ to begin with"
	}
}

# What a host has when nothing of godwit is left on it, but for the program: mounts, addresses, tables, tasks, records.
# shellcheck disable=SC2016
plain_state() {
	on "${1:-a}" sh -c '
		wc -l </proc/self/mountinfo
		ip -br addr show dev eth0 | sed "s/@if[0-9]*//; s/ *$//; s/10\.77\.0\.[12]\/24/OWN/; s/ 10\.77\.0\.100\/24//; s/fd77::[12]\/64/OWN/; s/fe80:[^ ]*//"
		nft list tables
		ls -A /var/lib/godwit
		for task in /proc/[0-9]*; do
			[ "${task#/proc/}" -gt 1 ] && read -r name 2>/dev/null <"$task/comm" || continue
			case $name in ticker | tree_ticker | sh | wc | ls | sshd) ;; *) echo "task $name" ;; esac
		done' 2>&1 | sed '/^sh: .*comm/d'
}

# "here", "gone" or what keeps it from running. As many processes as it has, and no more, each in its state
# shellcheck disable=SC2016,SC2086
program_state() {
	on "$1" sh -c '
		state_of() {
			status=$(cat /proc/"$1"/task/*/status 2>/dev/null)
			! grep -q " r-xs .*/dev/zero (deleted)" "/proc/$1/maps" 2>/dev/null || { echo "in the stub"; return; }
			case $status in
			"") state=gone ;;
			*"State:	Z"* | *"State:	X"*) state=Z ;;
			*"State:	T"* | *"State:	t"*) state=T ;;
			*) state=R ;;
			esac
			case $state$2 in
			RR | TT | ZZ) ;;
			gone?) echo gone ;;
			Z?) echo ending ;;
			T?) echo stopped ;;
			*) echo "not $2" ;;
			esac
		}
		address=$1 name=$2 count=0
		shift 2
		states=$(for process in "$@"; do state_of "${process%:*}" "${process#*:}"; done | sort | uniq | tr "\n" ,)
		for comm in /proc/[0-9]*/comm; do
			read -r other <"$comm" && [ "$other" = "$name" ] && count=$((count + 1))
		done 2>/dev/null
		case $states$count in
		"$#") ip -4 addr show dev eth0 | grep -q "$address/" && echo here || echo "without its address" ;;
		gone,0) echo gone ;;
		gone,* | *,*,*) echo "$states$count of $# processes" ;;
		*",$#") echo "${states%,}" ;;
		*) echo "$states$count of $# processes" ;;
		esac' sh "$service" "$subject" $processes # words
}

# Exactly one copy, nothing stray. Sets $host and $other. Only when nobody is at work any more it doesn't move while we look.
is_settled() {
	[ "$(plain_state a)" = "$(cat "$SHARED/plain-a")" ] && [ "$(plain_state b)" = "$(cat "$SHARED/plain-a")" ] || return 1
	case $(program_state a)/$(program_state b) in
	here/gone) host=a other=b ;;
	gone/here) host=b other=a ;;
	*) return 1 ;;
	esac
	! on "$other" ip -4 addr show dev eth0 | grep -q "$service/"
}

settles_within() {
	tries=$1
	until is_settled; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.05
	done
}

# Memory checked from the inside, and the clients get answers, none of them wrong.
check_whole() {
	reports=$((reports + 1))
	on "$host" kill -USR2 "$pid"
	wait_for "$dir/report-$reports"
	grep -q '"corrupt_pages": 0' "$dir/report-$reports" || fail "its memory is not what it was: $(cat "$dir/report-$reports")"
	rm -f "$dir/report-$reports"
	ask_counter
	before=$replies
	wait_until has_answered $((before + 20))
}

ask_counter() {
	rm -f "$counter_report"
	on_client kill -USR1 "$counter" || fail "${what:-to begin with}: the clients have ended: $(cat "$SHARED/counter.log" "$counter_report")"
	wait_for "$counter_report"
	grep -q '"errors": 0, "lost": 0, "doubled": 0' "$counter_report" || fail "${what:-to begin with}: clients: $(cat "$counter_report")"
	replies=$((replies + $(sed 's/.*"count": \([0-9]*\).*/\1/' "$counter_report")))
}

has_answered() {
	ask_counter
	[ "$replies" -ge "$1" ]
}

describe() {
	echo "a: $(program_state a)"
	plain_state a
	echo "b: $(program_state b)"
	plain_state b
	echo "expected on both:"
	cat "$SHARED/plain-a"
	tail -n 20 "$log"
}

# ---- Faults ----

needed=0

# start_moving [OPTION]...: to $destination, if that is set; $godwit is its PID on $host
destination=
start_moving() { start_moving_without_address --move-address "$service/24" "$@"; }
start_moving_without_address() {
	: >"$log"
	godwit=$(start_on "$host" "$log" "$GODWIT" migrate "$pid" "${destination:-$other}" --max-freeze 60000 \
		--ssh "$HOSTS ssh" --remote-path "$GODWIT" "$@")
	from=$host to=$other
}

# Of the migration that is under way
# shellcheck disable=SC2016
kill_session() {
	on "$from" sh -c 'ps -eo pid=,sid= | while read -r one session; do
		[ "$session" != "$1" ] || kill -KILL "$one"
	done' sh "$godwit" 2>/dev/null || :
}

# shellcheck disable=SC2016
kill_children() { # NAME: of the source's godwit
	on "$from" sh -c 'ps -eo pid=,ppid=,comm= | while read -r one parent name; do
		[ "$parent $name" != "$1 $2" ] || kill -KILL "$one"
	done' sh "$godwit" "$1" 2>/dev/null || :
}

# Neither the program nor the keeper, which have its name when they begin: by now they may be what their names say.
# shellcheck disable=SC2016
kill_receive() {
	on "$to" sh -c 'ps -eo pid=,ppid=,comm= | awk -v "program=$1" "
		\$3 == \"godwit\" && !index(program, \" \" \$1 \":\") { parent[\$1] = \$2 }
		END { for (one in parent) if (!(parent[one] in parent)) print one }" |
		while read -r one; do kill -KILL "$one"; done' sh " $processes" 2>/dev/null || :
}

# shellcheck disable=SC2016
kill_keeper() { # HOST
	on "$1" sh -c 'ps -eo pid=,comm= | while read -r one name; do
		[ "$name" != keeper ] || kill -KILL "$one"
	done' 2>/dev/null || :
}

# Whom to hit, with SIGKILL
strike() {
	case $1 in
	source) on "$from" kill -KILL "$godwit" 2>/dev/null || : ;;
	session) kill_session ;;
	ssh) kill_children hosts ;;
	receive) kill_receive ;;
	both)
		on "$from" kill -KILL "$godwit" 2>/dev/null || :
		kill_receive
		;;
	keepers)
		kill_keeper "$from"
		kill_keeper "$to"
		on "$from" kill -KILL "$godwit" 2>/dev/null || :
		kill_receive
		;;
	*) fail "whom? $1" ;;
	esac
}

# Waits for the end of all that is under way. What doesn't end well by itself is given to godwit resolve, and counted.
settle() {
	if ! settles_within 400; then
		needed=$((needed + 1))
		echo "$what: needs godwit resolve"
		describe
		for one in a b a; do on "$one" "$GODWIT" resolve || :; done
		settles_within 100 || {
			describe
			fail "$what: lost"
		}
	fi
	check_whole
}

# The source stopped at a phase, as GODWIT_TEST_STOP_AT=PHASE:STOP does. False: it ended before.
# shellcheck disable=SC2016
reaches_phase() {
	for _ in $(seq 500); do
		state=$(on "$1" sh -c 'ps -eo stat=,comm= | grep -c "^T.* godwit$"' || :)
		[ "$state" -eq 0 ] || return 0
		on "$from" kill -0 "$godwit" 2>/dev/null || return 1
	done
	fail "$what: phase not reached"
}

# shellcheck disable=SC2016
continue_all() {
	on "$1" sh -c 'ps -eo pid=,stat=,comm= | while read -r one state name; do
		case "$state $name" in T*" godwit") kill -CONT "$one" ;; esac
	done' 2>/dev/null || :
}
