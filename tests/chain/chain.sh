#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run chain.sh SUBJECT: pre-dumps and dumps in a chain of folders, and what becomes of it when a link is missing.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

images=$SHARED/images
mkdir "$images"

on() { "$HOSTS" on a "$@"; }
godwit() { on "$GODWIT" "$@" 2>"$SHARED/stderr"; }
warned() { grep -q "^warning: all pages are saved" "$SHARED/stderr"; }

# start NAME: a program of its own for each case, in $pid
start() {
	dir=$SHARED/$1
	mkdir "$dir"
	pid=$(start_on a "$SHARED/$1.log" "$subject" "$dir")
	wait_for "$dir/ready"
}

# verdict: the program looks at itself
verdict() {
	on kill -USR1 "$pid"
	wait_for "$dir/verdict"
	[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
}

# save COMMAND NAME [OPTION]...
save() {
	command=$1 name=$2
	shift 2
	mkdir -p "$images/$name"
	godwit "$command" --tree "$pid" --images-dir "$images/$name" "$@" || fail "$command into $name: $(cat "$SHARED/stderr")"
}

restore() {
	wait_gone a "$pid"
	godwit restore --images-dir "$images/$1" --restore-detached || fail "restore of $1: $(cat "$SHARED/stderr")"
}

pages() { stat -c %s "$images/$1/pages-1.img"; }

# PIDs of trackers, and the sockets on which they listen.
trackers() { on sh -c 'for name in /proc/[0-9]*/comm; do grep -qx godwit-tracker "$name" && echo "${name%/comm}"; done; true'; }
sockets() { on find /run/godwit -name 'tracker-*'; }
no_tracker() { [ -z "$(trackers)$(sockets)" ]; }

# Each element has only what is new, and says so. Nothing is new while the program stands still.
start chain
on kill -STOP "$pid"
save pre-dump one
save pre-dump two --prev-images-dir ../one
! warned || fail "the second pre-dump saved all: $(cat "$SHARED/stderr")"
[ "$(readlink "$images/two/parent")" = ../one ] || fail "no link to the parent"
[ "$(pages two)" -lt "$(pages one)" ] || fail "the second pre-dump has $(pages two) bytes, the first one $(pages one)"
on kill -CONT "$pid" # for a moment, or it would write all of its pages on a busy machine
on kill -STOP "$pid"
save dump three --prev-images-dir ../two --track-mem
! warned || fail "the dump saved all: $(cat "$SHARED/stderr")"
crit decode -i "$images/three/stats-dump" --pretty >"$SHARED/stats" || fail "crit reads no stats-dump"
skipped=$(sed -n 's/.*"pages_skipped_parent": \([0-9]*\).*/\1/p' "$SHARED/stats")
[ "$skipped" -gt 0 ] || fail "no page was left to the parent"
crit x "$images/three" mems >"$SHARED/mems" || fail "crit x mems"
grep -q "^$pid" "$SHARED/mems" || fail "crit x mems doesn't know the program"
restore three
on kill -CONT "$pid"
wait_until no_tracker
verdict

# Dumps that leave it running are links, too.
start running
save dump four --track-mem --leave-running
save dump five --track-mem --leave-running --prev-images-dir ../four
! warned || fail "a dump behind a dump saved all: $(cat "$SHARED/stderr")"
save dump six --prev-images-dir ../five
! warned || fail "a dump behind two dumps saved all: $(cat "$SHARED/stderr")"
restore six
verdict

# Without the folder of the last link, and without a tracker, all is saved, with a warning.
start broken
save pre-dump seven
save pre-dump eight
save dump nine --prev-images-dir ../seven
warned || fail "pages written since another folder were left out"
restore nine
verdict

wait_until no_tracker # the one of the program that has been saved ends a moment later
start killed
save pre-dump ten
tracker=$(trackers)
on kill -KILL "${tracker#/proc/}"
save dump eleven --prev-images-dir ../ten
warned || fail "pages written since nobody kept track were left out"
restore eleven
verdict

# A command that is killed at any moment ends the chain at most, never the program.
start hit
for time in 0.002 0.004 0.006 0.008 0.012 0.016 0.02 0.03; do
	mkdir "$images/hit-$time"
	on timeout -s KILL "$time" "$GODWIT" pre-dump --tree "$pid" --images-dir "$images/hit-$time" 2>/dev/null || true
done
save pre-dump twelve
save dump thirteen --prev-images-dir ../twelve
! warned || fail "the dump saved all: $(cat "$SHARED/stderr")"
restore thirteen
verdict
wait_until no_tracker
