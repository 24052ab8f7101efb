#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run bad.sh: what is wrong with a key, a host, its disk, its memory, a script or the link. What was asked for ends
# with an error that names it, or goes well; the program runs on exactly once, whole, and nothing is stray.
set -eu
tests=$(dirname "$0")/..
# shellcheck source=tests/faults/subject.sh
. "$tests/faults/subject.sh"

key=$SHARED/key
full=/run/full   # on each host: a folder in which nothing can be written
small=/run/small # and one in which images don't fit
images=$SHARED/images
runs=0

address_of() { case $1 in a) echo 10.77.0.1 ;; b) echo 10.77.0.2 ;; esac }
url_of() { echo "tls://$(address_of "$1"):7000"; }

prepare_hosts() {
	mkdir "$SHARED/tools" "$images"
	cp "$TOOLS/ticker" "$TOOLS/counter_client" "$SHARED/tools"
	TOOLS=$SHARED/tools # it can be missing on one host
	(umask 077 && openssl rand -hex 32 >"$key" && openssl rand -hex 32 >"$key-other")
	install -m 644 "$key" "$key-open"
	for one in a b; do
		on "$one" mkdir -m 700 $full $small
		on "$one" mount -t tmpfs -o size=2m tmpfs $small
		on "$one" mount -t tmpfs -o size=4k,mode=700 tmpfs $full
		on "$one" sh -c "head -c 4096 /dev/zero >$full/filler"
		start_on "$one" "$SHARED/receive-$one.log" "$GODWIT" receive --listen "$(address_of "$one"):7000" --key "$key" >/dev/null
		wait_until on "$one" sh -c "ss -Hltn 'sport = :7000' | grep -q LISTEN"
	done
}

# The program is where it was, and nothing else is there.
stays() {
	settle
	[ "$host" = "$from" ] || fail "$what: it has moved"
	for one in a b; do
		[ "$(on "$one" ls -A $full)" = filler ] || fail "$what: something is left: $(on "$one" ls -A $full)"
	done
	runs=$((runs + 1))
}

# refused TEXT [OPTION]...: it doesn't move, and the error says so
refused() {
	what=$1
	shift
	start_moving "$@"
	wait_gone "$host" "$godwit"
	grep -qF -e "$what" "$log" || fail "nothing says '$what': $(cat "$log")"
	grep -qF "The program runs on here." "$log" || fail "$what: the end doesn't tell that it runs: $(cat "$log")"
	stays
}

# ---- Key, release, address, PID, files ----

# An ssh(1) between releases that don't speak the same: the version is the first field of the first frame's message.
make_other_release() {
	cat >"$SHARED/other-release" <<-'PYTHON'
		#!/usr/bin/python3
		import os, subprocess, sys
		child = subprocess.Popen([os.environ["HOSTS"], "ssh", *sys.argv[1:]], stdin=subprocess.PIPE)
		data = bytearray()
		while len(data) < 10:
		    data += os.read(0, 10 - len(data))
		assert data[8] == 0x08, data
		data[9] = 99
		while data:
		    try:
		        child.stdin.write(data)
		        child.stdin.flush()
		    except BrokenPipeError:
		        break
		    data = os.read(0, 65536)
		try:
		    child.stdin.close()
		except BrokenPipeError:
		    pass
		sys.exit(child.wait())
	PYTHON
	chmod +x "$SHARED/other-release"
}

# As some file that isn't godwit is: a login shell that greets, a program that isn't there
wrong_speakers() {
	make_other_release
	refused "install the same release on both hosts" --ssh "$SHARED/other-release"
	refused "not found" --remote-path /no/such/godwit
	refused "the other side ended with status 1 before it said anything" --ssh false
	refused "ssh HOST true has to print nothing" --remote-path 'echo welcome to'
	refused "is it godwit that answers there?" --remote-path 'head -c 64 /dev/zero; :'
}

wrong_keys() {
	destination=$(url_of "$other")
	refused "TLS handshake" --key "$key-other"
	refused "can be read by others" --key "$key-open"
	refused "No such file or directory" --key "$key-missing"
	destination=
}

wrong_addresses() {
	refused "no interface has address 10.77.0.99" --move-address 10.77.0.99/24
	what="the program has sockets at $service, which is no address here"
	start_moving_without_address
	wait_gone "$host" "$godwit"
	grep -qF "$what" "$log" || fail "$what: $(cat "$log")"
	stays
}

taken_pid() {
	taken=$(on "$other" sh -c "echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid; sleep 1000 >/dev/null 2>&1 & echo \$!")
	[ "$taken" = "$pid" ] || fail "PID $pid is not taken, but $taken"
	what='a PID that is taken'
	start_moving
	wait_gone "$host" "$godwit"
	grep -q "PID $pid of the program is in use here by process $pid (sleep)" "$log" ||
		fail "the error doesn't name who has the PID: $(cat "$log")"
	on "$other" kill -KILL "$taken"
	wait_gone "$other" "$taken"
	stays
}

# files_differ WHAT PROGRAM [ARG]...: mounts something in the way of the program's own file, over there
files_differ() {
	what=$1
	shift
	on "$other" "$@"
	start_moving
	wait_gone "$host" "$godwit"
	on "$other" umount "$SHARED/tools"
	grep -qF -e "$SHARED/tools/ticker: $what" "$log" || fail "the error doesn't name the file: $(cat "$log")"
	grep -q "rsync .*$SHARED/tools/ticker" "$log" || fail "nothing says how to bring it there: $(cat "$log")"
	stays
}

wrong_files() {
	files_differ 'missing here' mount -t tmpfs tmpfs "$SHARED/tools"
	files_differ '6 bytes here, ' sh -c "mount -t tmpfs tmpfs $SHARED/tools && echo other >$SHARED/tools/ticker"
}

# ---- Scripts ----

# A script that fails at a point, on either side
failing_scripts() {
	cat >"$SHARED/script" <<-'SCRIPT'
		#!/bin/sh
		[ "$CRTOOLS_SCRIPT_ACTION" != "$1" ] || exit 42
	SCRIPT
	chmod +x "$SHARED/script"
	for point in pre-dump post-dump; do
		refused "script $SHARED/script $point at $point: ended with status 42" --action-script "$SHARED/script $point"
	done
	for point in pre-restore post-restore; do
		refused "script $SHARED/script $point at $point: ended with status 42" \
			--remote-option "--action-script=$SHARED/script $point"
	done
	for point in network-unlock pre-resume post-resume; do
		what="a script that fails at $point, behind the point of no return"
		start_moving --remote-option "--action-script=$SHARED/script $point"
		wait_gone "$host" "$godwit"
		settle
		[ "$host" = "$to" ] || fail "$what: it has not moved: $(cat "$log")"
		runs=$((runs + 1))
	done
}

# ---- Disk and memory ----

full_disks() {
	refused "No space left on device" --remote-option --state-dir=$full
	refused "No space left on device" --state-dir $full
	for how in '' --leave-running --leave-stopped; do
		what="images that don't fit, dump $how" from=$host
		# shellcheck disable=SC2086
		! on "$host" "$GODWIT" dump --tree "$pid" --images-dir $small --tcp-established $how >"$log" 2>&1 ||
			fail "$what: it went well"
		grep -q "No space left on device" "$log" || fail "$what: not said: $(cat "$log")"
		grep -q "The program runs on" "$log" || fail "$what: the end doesn't tell that it runs: $(cat "$log")"
		on "$host" sh -c "rm -rf $small/*"
		stays
	done
	what='a pre-dump that does not fit'
	! on "$host" "$GODWIT" pre-dump --tree "$pid" --images-dir $small --tcp-established >"$log" 2>&1 || fail "$what: it went well"
	grep -q "No space left on device" "$log" || fail "$what: not said: $(cat "$log")"
	stays
}

# restore_fails WHAT TEXT PROGRAM [ARG]...: of images that are whole; nothing of the program may be left
restore_fails() {
	what=$1 text=$2
	shift 2
	! on "$host" "$@" >"$log" 2>&1 || fail "$what: it went well"
	grep -qF -e "$text" "$log" || fail "$what: nothing says '$text': $(cat "$log")"
	grep -qF "Nothing was restored." "$log" || fail "$what: the end doesn't tell: $(cat "$log")"
	tries=1000
	until is_only_saved; do
		[ $((tries -= 1)) -gt 0 ] || {
			describe
			fail "$what: something is left"
		}
		sleep 0.05
	done
	runs=$((runs + 1))
}

is_only_saved() {
	[ "$(program_state "$host")" = gone ] &&
		[ "$(plain_state "$host" | sed "/^table inet godwit-$pid-0\$/d")" = "$(cat "$SHARED/plain-a")" ]
}

# Sanitizers map terabytes: SANITIZE says whether godwit has any, and then its addresses can't be limited.
may_limit() { [ "${SANITIZE:-none}" = none ]; }
little_memory="ulimit -Sv 60000; exec $GODWIT" # in KiB: enough for godwit, not for the program besides

restores_fail() {
	on "$host" "$GODWIT" dump --tree "$pid" --images-dir "$images" --tcp-established >"$log" 2>&1 || fail "dump: $(cat "$log")"
	wait_gone "$host" "$pid"
	restore="restore --images-dir $images --restore-detached --tcp-established"
	restore_fails 'a PID file on a full disk' 'No space left on device' sh -c "$GODWIT $restore --pidfile $full/pid"
	! may_limit || restore_fails 'too little memory' 'Cannot allocate memory' sh -c "$little_memory $restore"
	# shellcheck disable=SC2086
	on "$host" "$GODWIT" $restore >"$log" 2>&1 || fail "restore after all: $(cat "$log")"
	from=$host what='a restore after all'
	stays
}

# ---- The link ----

cut_link() {
	on "$to" nft -f - <<-NFT
		table inet cut {
			chain in { type filter hook input priority 0; ip saddr $(address_of "$from") drop; }
			chain out { type filter hook output priority 0; ip daddr $(address_of "$from") drop; }
		}
	NFT
}

mend_link() { on "$to" nft delete table inet cut; }

# cut PHASE back|gone: between the hosts, at that phase of the source; it comes back before anybody has lost patience, or when
# the migration has ended or waits for an answer
cut() {
	what="link $2 at $1"
	destination=$(url_of "$other")
	export GODWIT_TEST_STOP_AT="$1:STOP"
	start_moving --key "$key"
	unset GODWIT_TEST_STOP_AT
	reaches_phase "$from" || fail "$what: ended before: $(cat "$log")"
	cut_link
	continue_all "$from"
	[ "$2" = back ] || go_on_until ended_or_asks
	mend_link
	go_on_until ended
	settle 1000
	destination=
	runs=$((runs + 1))
}

ended() { ! on "$from" kill -0 "$godwit" 2>/dev/null; }
ended_or_asks() { ended || grep -q "it can't be asked" "$log"; }

# There may be several rounds, each with a stop.
go_on_until() {
	tries=900
	until "$1"; do
		[ $((tries -= 1)) -gt 0 ] || fail "$what: not $1: $(cat "$log")"
		continue_all "$from"
		sleep 0.1
	done
}

cut_links() {
	for phase in round held committed go; do cut $phase back; done
	cut held gone
	grep -q "The program runs on here." "$log" || fail "link gone before committed: $(cat "$log")"
	cut committed gone
	grep -q "it can't be asked" "$log" || fail "link gone behind committed: $(cat "$log")"
}

prepare_hosts
start_subject
wrong_keys
wrong_speakers
wrong_addresses
taken_pid
wrong_files
full_disks
restores_fail
! may_limit || refused "Cannot allocate memory" --remote-path "$little_memory"
failing_scripts
cut_links
echo "$runs faults, $needed needed godwit resolve; slowest reply and replies: $(cat "$counter_report")"
[ "$needed" -eq 0 ] || fail "$needed needed godwit resolve"
