#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 stdio.sh: what standard streams become whose other end stays: --stdio.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
# shellcheck source=tests/lib/carry.sh
. "$(dirname "$0")/../lib/carry.sh"
origin=$(dirname "$0")

# start KIND: on a
start() {
	host=a folder=$SHARED/$1
	rm -rf "$folder" "$SHARED/images"
	mkdir -p "$folder" "$SHARED/images"
	chmod 777 "$folder"
	start_on a "$folder.log" /usr/bin/python3 -S "$origin/streams.py" "$1" "$folder" >/dev/null
	wait_for "$folder/pid"
	pid=$(cat "$folder/pid")
}

# say TEXT REPORT: it says that, and finds this
say() {
	printf %s "$1" >"$folder/say.new"
	mv "$folder/say.new" "$folder/say"
	wait_for "$folder/report"
	[ "$(cat "$folder/report")" = "$2" ] || fail "found: $(cat "$folder/report")"
	wait_gone "$host" "$pid"
}

# refused OPTIONS NEEDLE...: by migrate; the program has not been touched
refused() {
	# shellcheck disable=SC2086
	! on a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" $1 2>"$SHARED/errors.log" ||
		fail "migrated with '$1'"
	shift
	for needle in "$@" "The program runs on here."; do
		grep -qF -e "$needle" "$SHARED/errors.log" || fail "nothing says '$needle'"
	done
}

is_file() { printf %b "$2" | on b cmp -s - "$1"; }

null="fd0 /dev/null, fd1 /dev/null, fd2 /dev/null, read 0, same, own session, no terminal"

start pipes
refused "" "fd 0" "also open in process" "hint:  --stdio null gives it /dev/null in the place of that"
move b --stdio null
say null "$null"
echo "ok pipes of others become /dev/null"

start pipes
refused "--stdio /run/none/log" "fd 1" "folder /run/none, for /run/none/log to be made there" "hint:  mkdir -p its folder there"
on b mkdir /run/full
refused "--stdio /run/full" "/run/full is there, and no regular file"
cat >"$SHARED/fail" <<SCRIPT
#!/bin/sh
[ "\$CRTOOLS_SCRIPT_ACTION" != post-restore ] || [ ! -e /run/full/log ]
SCRIPT
chmod +x "$SHARED/fail"
refused "--stdio /run/full/log -M --action-script=$SHARED/fail" "post-restore"
[ -z "$(on b ls /run/full)" ] || fail "the file of a migration that failed stays"
move b --stdio /run/full/log
say file "fd0 /dev/null, fd1 /run/full/log, fd2 /run/full/log, read 0, same, own session, no terminal"
is_file /run/full/log "1 file\n2 file\n7 file\n" || fail "written: $(on b cat /run/full/log)"
[ "$(on b stat -c '%a %u %g' /run/full/log)" = "600 0 0" ] || fail "the file is $(on b stat -c '%a %u %g' /run/full/log)"
echo "ok they become a file"

export AS=1234
on b rm /run/full/log
start pipes
move b --stdio /run/full/log
say user "fd0 /dev/null, fd1 /run/full/log, fd2 /run/full/log, read 0, same, own session, no terminal"
[ "$(on b stat -c '%a %u %g' /run/full/log)" = "600 1234 1235" ] || fail "the file is $(on b stat -c '%a %u %g' /run/full/log)"
unset AS
on b sh -c 'echo old >/run/full/log'
start job
move b --stdio /run/full/log
say more "fd0 /run/full/log, fd1 /run/full/log, fd2 /run/full/log, read 0, same, own session, no terminal"
is_file /run/full/log "old\n1 more\n2 more\n7 more\n" || fail "written: $(on b cat /run/full/log)"
echo "ok a file that is there is written at its end, and read from there"

start job
for needle in "setsid -f PROG </dev/null >LOG 2>&1" "--shell-job" "--stdio null"; do
	refused "" "it belongs to the session of python3" "a terminal, which stays" "$needle"
done
refused "--shell-job" "the program had a terminal, and standard input here is none" "--stdio null"
move b --stdio null
say job "$null"

# The same to one that listens, and was not called from a terminal either.
(umask 077 && openssl rand -hex 32 >"$SHARED/key")
receiving=$(start_on b "$SHARED/receive.log" "$GODWIT" receive --listen 10.77.0.2:7777 --key "$SHARED/key")
wait_until on b sh -c "ss -Hltn 'sport = :7777' | grep -q LISTEN"
start job
! on a "$GODWIT" migrate "$pid" tls://10.77.0.2:7777 --key "$SHARED/key" --shell-job 2>"$SHARED/errors.log" ||
	fail "migrated without a terminal"
for needle in "on the other host" "standard input here is none" "or migrate, save or restore it with --stdio null instead"; do
	grep -qF -e "$needle" "$SHARED/errors.log" || fail "nothing says '$needle'"
done
on a "$GODWIT" migrate "$pid" tls://10.77.0.2:7777 --key "$SHARED/key" --max-freeze 60000 --stdio null || fail "migrate over TLS"
wait_gone a "$pid"
host=b
say listening "$null"
on b kill "$receiving"

start job
move b --stdio null --shell-job
say both "fd0 /dev/null, fd1 /dev/null, fd2 /dev/null, read 0, same, a session of others, no terminal"
start leader
for needle in "setsid -f PROG </dev/null >LOG 2>&1" "--shell-job" "--stdio null"; do
	refused "" "it has a controlling terminal" "$needle"
done
move b --stdio null
say leader "$null"
echo "ok a program leaves its terminal and its session"

start job
save one --stdio null
wait_gone a "$pid"
bring_back one
say saved "$null"
start job
save one --shell-job
wait_gone a "$pid"
host=b
restore() { on b "$GODWIT" restore -D "$SHARED/images/one" -d "$@" 2>"$SHARED/errors.log"; }
! restore --shell-job || fail "restored without a terminal"
grep -qF "standard input here is none" "$SHARED/errors.log" || fail "it isn't said that there is no terminal"
! restore --stdio /run/none/log || fail "restored with output to nowhere"
grep -qF "folder /run/none, for /run/none/log to be made there" "$SHARED/errors.log" || fail "it isn't said that there is no folder"
on b rm /run/full/log
restore --stdio /run/full/log || fail "restore --stdio FILE"
say restored "fd0 /run/full/log, fd1 /run/full/log, fd2 /run/full/log, read 0, same, own session, no terminal"
is_file /run/full/log "1 restored\n2 restored\n7 restored\n" || fail "written: $(on b cat /run/full/log)"
echo "ok images have it, too, or get it when they are restored"

start watched
refused "--stdio null" "epoll watches fd 0, which becomes a file, and no file can be watched"
on a kill -KILL "$pid"
echo "ok what watches them is refused"

start pipes
refused "--stdio journal" "fd 1" "the journal of systemd isn't there" "hint:  start that service there, or give the program"
mkdir "$SHARED/heard"
start_on b "$SHARED/heard.log" /usr/bin/python3 -S "$origin/log_services.py" "$SHARED/heard" >/dev/null
wait_for "$SHARED/heard/ready"
move b --stdio journal
say journal "fd0 /dev/null, fd1 socket, fd2 socket, read 0, same, own session, no terminal"
# is_heard NAME TEXT: of the stream
is_heard() {
	printf "%s\n\n6\n1\n0\n0\n0\n1 %s\n2 %s\n7 %s\nEND\n" "$1" "$2" "$2" "$2" |
		cmp -s - "$(find "$SHARED/heard" -name 'stream-*' -size +5c)"
}
wait_until is_heard python3 journal
rm "$SHARED"/heard/stream-*
start leader
move b --stdio journal
say terminal "fd0 socket, fd1 socket, fd2 socket, read 0, same, own session, no terminal"
wait_until is_heard python3 terminal
rm "$SHARED"/heard/stream-*
start job
save one --shell-job
wait_gone a "$pid"
host=b
restore --stdio journal || fail "restore --stdio journal"
say again "fd0 socket, fd1 socket, fd2 socket, read 0, same, own session, no terminal"
wait_until is_heard "" again
echo "ok they become a stream to the journal"
