#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run messages.sh: what a new user does wrong, and what he reads then: the reason, what to do about it, and last
# what became of the program, which is as it was.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
# shellcheck source=tests/lib/sshd.sh
. "$(dirname "$0")/../lib/sshd.sh"

images=$SHARED/images
message=$SHARED/message
mkdir "$images"

# expect STATUS LINE...: what the last command ended with, and lines of its standard error, the last one being its last
expect() {
	[ "$status" = "$1" ] || fail "status $status instead of $1: $(cat "$message")"
	shift
	for line; do
		grep -qF -e "$line" "$message" || fail "nothing says '$line': $(cat "$message")"
	done
	tail -n 1 "$message" | grep -qF -e "$line" || fail "the last line isn't '$line': $(cat "$message")"
}

# try COMMAND...: godwit on a
try() {
	status=0
	on_a "$GODWIT" "$@" >"$SHARED/out" 2>"$message" || status=$?
}

as_user() {
	status=0
	on_a setpriv --reuid 65534 --clear-groups "$GODWIT" "$@" >"$SHARED/out" 2>"$message" || status=$?
}

start_sshd b 10.77.0.2
ssh="ssh -F $ssh_config"
pid=$(start_on a /dev/null sleep 1000)
runs="The program runs on."
runs_here="The program runs on here."

echo "--- the command line"
try dump --tree redis --images-dir "$images"
expect 2 '"redis" is no PID' "hint:  pgrep -a redis"
try dump --images-dir "$images"
expect 2 "no program to save" "hint:  --tree PID names it"
try dump --tree "$pid"
expect 2 "no folder for the images" "hint:  --images-dir DIR names it"
try dump --fast
expect 2 "unknown option --fast" "hint:  godwit dump --help lists the options"
try dump --link-remap
expect 2 "option --link-remap is CRIU's" "hint:  leave it out"
try dump --tree
expect 2 "option --tree needs an argument"
try dump -s -R -t "$pid" -D "$images"
expect 2 "--leave-stopped and --leave-running exclude each other"
try help
[ "$status" = 0 ] || fail "there is no help"
grep -q '^  migrate ' "$SHARED/out" || fail "help doesn't list the commands"
try move
expect 2 "unknown command move" "hint:  godwit --help lists the commands"
try migrate "$pid"
expect 2 "a program and a destination are needed" "hint:  godwit migrate PID [USER@]HOST"
try migrate "$pid" tls://10.77.0.2:7777
expect 2 "tls:// needs a key" "hint:  --key FILE names it"
try migrate "$pid" tls://10.77.0.2:7777 --key x -M --once
expect 2 "--remote-option is for ssh" "hint:  give the option to godwit receive"
try receive
expect 2 "standard input is no connection" "hint:  godwit migrate PID HOST calls this over ssh"
try receive --listen 10.77.0.1:7777
expect 2 "--listen needs a key" "hint:  --key FILE names it"

echo "--- the program"
try dump --tree 99999 --images-dir "$images"
expect 1 "there is no process 99999" "hint:  pgrep -a NAME" "The program is not there."
try migrate 99999 b
expect 1 "there is no process 99999" "The program is not there."
parent=$(start_on a /dev/null sh -c 'true & echo $! >"$0/unseen"; exec sleep 1000' "$SHARED")
wait_until on_a sh -c "grep -q '^State:.Z' /proc/\$(cat $SHARED/unseen)/status"
try dump --tree "$(cat "$SHARED/unseen")" --images-dir "$images"
expect 1 "The program is not there."
on_a kill "$parent"
parent=$(start_on a /dev/null sh -c 'sleep 1000 & sleep 1001 & wait')
wait_until on_a sh -c "[ \$(cat /proc/$parent/task/*/children | wc -w) = 2 ]"
wait_until on_a sh -c "! grep -l '^sh\$' \$(sed 's,[0-9]*,/proc/&/comm,g' /proc/$parent/task/$parent/children)"
mkdir "$SHARED/memory"
try pre-dump --tree "$parent" --images-dir "$SHARED/memory" --json
expect 1 "it has child processes: " "(sleep)" "hint:  end the children, or let godwit wait" "$runs"
job=$(on_a cat "/proc/$parent/task/$parent/children" | cut -d ' ' -f 1)
try migrate "$job" b
expect 1 "it belongs to the session of sh (PID $parent), which stays" "hint:  start it apart: setsid -f" "$runs_here"

echo "--- connections"
connected=$(start_on a /dev/null /usr/bin/python3 -c '
import signal, socket
connection = socket.create_connection(("10.77.0.2", 22))
signal.pause()')
wait_until on_a sh -c "ss -Htnp state established | grep -q pid=$connected,"
try dump --tree "$connected" --images-dir "$images"
expect 1 "TCP connection from 10.77.0.1:" "hint:  --tcp-established carries connections" "$runs"
# It is for the dump to say: as with CRIU, memory alone may be saved without.
mkdir "$SHARED/pre"
try pre-dump --tree "$connected" --images-dir "$SHARED/pre"
[ "$status" = 0 ] || fail "pre-dump asks for --tcp-established: $(cat "$message")"
on_a kill "$connected"

echo "--- privileges"
as_user dump --tree "$pid" --images-dir "$images"
expect 1 "Permission denied (EACCES)" "hint:  godwit has to run as root: sudo godwit" "$runs"
try migrate "$pid" 10.77.0.2 --ssh "$ssh" --remote-path "setpriv --reuid 65534 --clear-groups $GODWIT"
expect 1 "on the other host" "godwit runs as user 65534" "hint:  it has to run as root there: --remote-path 'sudo godwit'" \
	"$runs_here"

echo "--- the other host"
try migrate "$pid" nosuchhost.invalid --ssh "$ssh"
expect 1 "ssh could not connect, see its message above" "hint:  this has to work first: ssh HOST true" "$runs_here"
try migrate "$pid" 10.77.0.3 --ssh "$ssh"
expect 1 "Connection refused" "ssh could not connect" "$runs_here"
try migrate "$pid" 10.77.0.2 --ssh "nosuchssh -q"
expect 1 "run nosuchssh -q: No such file or directory (ENOENT)" "$runs_here"
try migrate "$pid" 10.77.0.2 --ssh "$ssh" --remote-path /nonexistent/godwit
expect 1 "godwit can't be called there" "hint:  install it there, or name it: --remote-path" "$runs_here"
try migrate "$pid" 10.77.0.2 --ssh "$ssh" --remote-path "true"
expect 1 "the other side ended with status 0 before it said anything" "$runs_here"

# As a .bashrc that greets does.
try migrate "$pid" 10.77.0.2 --ssh "$ssh" --remote-path "echo Welcome to this host; $GODWIT"
expect 1 'what answers there says "Welcome ..."' "hint:  ssh HOST true has to print nothing" "$runs_here"

echo "--- keys"
(umask 077 && openssl rand -hex 32 >"$SHARED/key" && openssl rand -hex 32 >"$SHARED/other" && echo abc >"$SHARED/short")
cp "$SHARED/key" "$SHARED/open"
chmod 644 "$SHARED/open"
listening=$(start_on b "$SHARED/receive.log" "$GODWIT" receive --listen 10.77.0.2:7777 --key "$SHARED/other")
wait_until on_b sh -c "ss -Hltn 'sport = :7777' | grep -q LISTEN"
try migrate "$pid" tls://10.77.0.2:7777 --key "$SHARED/open"
expect 1 "key file $SHARED/open can be read by others" "hint:  chmod 600 $SHARED/open" "$runs_here"
try migrate "$pid" tls://10.77.0.2:7777 --key "$SHARED/short"
expect 1 "key file $SHARED/short doesn't hold 64 hex digits" "hint:  openssl rand -hex 32" "$runs_here"
try migrate "$pid" tls://10.77.0.2:7777 --key "$SHARED/nokey"
expect 1 "No such file or directory (ENOENT)" "hint:  (umask 077; openssl rand -hex 32" "$runs_here"
try migrate "$pid" tls://10.77.0.2:7777 --key "$SHARED/key"
expect 1 "TLS handshake" "hint:  both hosts need the same key" "$runs_here"
try migrate "$pid" tls://10.77.0.2:7778 --key "$SHARED/other"
expect 1 "connect to 10.77.0.2:7778: Connection refused" 'hint:  is "godwit receive --listen" running there?' "$runs_here"
try migrate "$pid" tls://10.77.0.2 --key "$SHARED/other"
expect 1 '"10.77.0.2" is no HOST:PORT' "$runs_here"
on_b kill "$listening"

echo "--- addresses"
try migrate "$pid" 10.77.0.2 --ssh "$ssh" --remote-path "$GODWIT" --move-address 10.0.0.9
expect 1 "no interface has address 10.0.0.9" "hint:  ip -brief address" "$runs_here"
on_a ip addr add 192.168.7.1/24 dev eth0
try migrate "$pid" 10.77.0.2 --ssh "$ssh" --remote-path "$GODWIT" --move-address 192.168.7.1
expect 1 "on the other host" "no interface is in the subnet of 192.168.7.1" "$runs_here"

echo "--- folders and disks"
try dump --tree "$pid" --images-dir "$images/none"
expect 1 "No such file or directory (ENOENT)" "hint:  mkdir -p $images/none" "$runs"
on_a mount -t tmpfs -o size=64k tmpfs /mnt
on_a mkdir /mnt/images
try dump --tree "$pid" --images-dir /mnt/images
expect 1 "No space left on device (ENOSPC)" "$runs"
[ -z "$(on_a ls /mnt/images)" ] || fail "half an image is left: $(on_a ls /mnt/images)"
try dump --tree "$pid" --images-dir "$images" --log-file none/dump.log
expect 2 "log file: open($images/none/dump.log): No such file or directory"
try restore --images-dir "$images"
expect 1 "no program is saved in $images" "hint:  the folder is the one that --images-dir named" "Nothing was restored."

echo "--- what is different by now"
echo long >"$SHARED/read"
echo long >"$SHARED/appended"
touch "$SHARED/moved"
# shellcheck disable=SC2016 # for the other shell
program=$(start_on a /dev/null sh -c 'exec sleep 1000 <"$0/read" 3>>"$0/appended" 4<"$0/moved"' "$SHARED")
wait_until on_a sh -c "[ \$(cat /proc/$program/comm) = sleep ]"
try dump --tree "$program" --images-dir "$images" --leave-running
[ "$status" = 0 ] || fail "dump: $(cat "$message")"
try dump --tree "$program" --images-dir "$images"
expect 1 "$images holds the images of another dump" "hint:  name an empty folder" "$runs"
try restore --images-dir "$images"
expect 1 "PID $program" "is taken by sleep" "Nothing was restored."
on_a kill -KILL "$program"
wait_gone a "$program"
echo longer >>"$SHARED/read"
echo longer >>"$SHARED/appended"
rm "$SHARED/moved"
try restore --images-dir "$images" --json
expect 1 "2 of the files that the program has are missing or different here" "$SHARED/moved: missing here" \
	"hint:  rsync -a SOURCE:'$SHARED/moved' '$SHARED/moved'" "$SHARED/read: 12 bytes here, 5 when it was saved" \
	"hint:  rsync -a SOURCE:'$SHARED/read' '$SHARED/read'" "Nothing was restored."
python3 - "$SHARED/out" "$SHARED" <<-'PYTHON' || fail "not the JSON that is expected: $(cat "$SHARED/out")"
	import json, sys
	told = json.load(open(sys.argv[1]))
	assert told["command"] == "restore" and told["program"] == "none" and told["outcome"] == "Nothing was restored."
	assert sys.argv[2] + "/moved: missing here" in told["causes"] and len(told["causes"]) == 4, told
	assert "rsync -a SOURCE:'%s/moved' '%s/moved'" % (sys.argv[2], sys.argv[2]) in told["hints"], told
	assert told["error"].startswith("cannot restore the program from"), told
PYTHON
touch "$SHARED/moved"
echo long >"$SHARED/read"
try restore --images-dir "$images" --restore-detached --json --log-file restore.log -v4
[ "$status" = 0 ] || fail "restore: $(cat "$message")"
grep -q '"program":"runs"' "$SHARED/out" || fail "JSON: $(cat "$SHARED/out")"
grep -q "^(00\.[0-9]*) it runs" "$images/restore.log" || fail "no phases in the log: $(cat "$images/restore.log")"

# The first program has been touched by all that, and is as it was.
case $(on_a ps -o stat= -p "$pid") in
S*) ;;
*) fail "the program isn't as it was: $(on_a ps -o stat= -p "$pid")" ;;
esac
[ -z "$(on_b pgrep sleep)" ] || fail "something was left on b"
