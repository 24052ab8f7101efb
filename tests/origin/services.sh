#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 services.sh: a service of systemd is connected to the journal and to syslog of the host that it comes
# to, and refused where these are not there, before it is stopped.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
# shellcheck source=tests/lib/carry.sh
. "$(dirname "$0")/../lib/carry.sh"
origin=$(dirname "$0")
host=a

# listen HOST NAME [SOCKET...]: what is heard there goes to $SHARED/NAME
listen() {
	mkdir "$SHARED/$2"
	where=$1 name=$2
	shift 2
	listener=$(start_on "$where" "$SHARED/$name.log" /usr/bin/python3 -S "$origin/log_services.py" "$SHARED/$name" "$@")
	wait_for "$SHARED/$name/ready"
}

start() {
	folder=$SHARED/$1
	rm -rf "$SHARED/images"
	mkdir -p "$folder" "$SHARED/images"
	pid=$(start_on "$host" "$folder.log" /usr/bin/python3 -S "$origin/service.py" "$folder")
	wait_for "$folder/ready"
}

# say TEXT: and nothing is as it wasn't
say() {
	printf %s "$1" >"$folder/say.new"
	mv "$folder/say.new" "$folder/say"
	wait_for "$folder/verdict"
	[ "$(cat "$folder/verdict")" = pass ] || fail "$(cat "$folder/verdict")"
	wait_gone "$host" "$pid"
}

# heard NAME TEXT FILE: at the end, this and nothing else is in FILE of what was heard
is_heard() { printf %b "$2" | cmp -s - "$SHARED/$1/$3"; }
heard() { wait_until is_heard "$@"; }

# The one stream on which something was said: the others are those of looks whether somebody listens.
stream_of() { find "$SHARED/$1" -name 'stream-*' -size +5c -printf '%f\n'; }

first_lines='the-name\nthe.service\n3\n0\n1\n0\n1\n'
said="out carried\nerror carried\nEND\n"

listen a at-a
start alone
! on a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" 2>"$SHARED/errors.log" ||
	fail "moved to where there is no journal"
for needle in "fd 1" "the journal of systemd isn't there: connect to /run/systemd/journal/stdout" \
	"syslog isn't there: connect to /run/systemd/journal/dev-log" "start that service there" "The program runs on here."; do
	grep -qF -e "$needle" "$SHARED/errors.log" || fail "nothing says '$needle'"
done
echo "ok what isn't there is told before anything is done"

listen b at-b
move b
say carried
heard at-a "${first_lines}before\nEND\n" "$(stream_of at-a)"
heard at-b "$first_lines$said" "$(stream_of at-b)"
heard at-a "<30>before\n" messages
heard at-b "<30>carried\n" messages
echo "ok it speaks to the services of the other host"

host=a
start saved
save one
wait_gone a "$pid"
on b sh -c "kill $listener; rm -r /run/systemd"
host=b
! on b "$GODWIT" restore -D "$SHARED/images/one" -d 2>"$SHARED/errors.log" || fail "restored where there is no journal"
grep -qF "the journal of systemd isn't there" "$SHARED/errors.log" || fail "it isn't said what is missing"

on b "$GODWIT" restore -D "$SHARED/images/one" -d --stdio null 2>"$SHARED/errors.log" && fail "restored without syslog"
! grep -qF "the journal of systemd isn't there" "$SHARED/errors.log" || fail "the journal isn't needed any more"

# A host with a syslog of its own, at the place where that has always been.
on b sh -c 'mkdir /run/dev && mount --rbind /dev /run/dev && mount -t tmpfs tmpfs /dev &&
	for name in null zero full random urandom ptmx; do touch /dev/$name && mount --bind /run/dev/$name /dev/$name || exit 1; done'
listen b at-syslog /run/systemd/journal/stdout /dev/log
bring_back one
say carried
heard at-syslog "$first_lines$said" "$(stream_of at-syslog)"
heard at-syslog "<30>carried\n" messages
echo "ok it is restored with syslog at another path"
