#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run recipe.sh: the recipe that godwit began with, word for word:
#
#     godwit dump --tree PID --images-dir DIR --leave-stopped
#     copy DIR to the other host
#     godwit restore --images-dir DIR
#     kill the stopped original; its connections close without telling the peers
#
# on a program alone, on one of a shell's session (--shell-job), and on redis with clients connected
# (--tcp-established), there and back and once more on the same host.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

images=/run/images # on each host, where the other one doesn't see it

make_place() {
	"$HOSTS" on "$1" rm -rf $images
	"$HOSTS" on "$1" mkdir $images
}

# copy_images FROM TO: over the network, as users do
copy_images() {
	make_place "$2"
	"$HOSTS" on "$1" rsync -a -e "$HOSTS ssh" $images/ "$2:$images/"
}

# The same by scp, which wants one program for ssh.
scp_images() {
	make_place "$2"
	printf '#!/bin/sh\nexec "%s" ssh "$@"\n' "$HOSTS" >"$SHARED/ssh"
	chmod +x "$SHARED/ssh"
	"$HOSTS" on "$1" scp -q -O -r -S "$SHARED/ssh" $images "$2:${images%/*}"
}

is_stopped() { [ "$("$HOSTS" on "$1" ps -o stat= -p "$pid" | cut -c 1)" = T ]; }

# save_stopped HOST [OPTION]...: the first step
save_stopped() {
	where=$1
	shift
	make_place "$where"
	"$HOSTS" on "$where" "$GODWIT" dump --tree "$pid" --images-dir $images --leave-stopped "$@" || fail "dump"
	wait_until is_stopped "$where" # on its way out of our code, when dump has ended
}

# bring_back_waiting HOST [OPTION]...: the third step. restore waits for the program as long as that runs.
bring_back_waiting() {
	where=$1
	shift
	rm -f "$SHARED/restore.pid"
	# shellcheck disable=SC2016 # for the other shell
	"$HOSTS" on "$where" sh -c 'echo $$ >"$0"; exec "$@"' "$SHARED/restore.pid" \
		"$GODWIT" restore --images-dir $images "$@" >"$SHARED/restore.log" 2>&1 &
	waiting=$!
	wait_until is_running "$where"
	restore=$(cat "$SHARED/restore.pid")
}

# While it is built it is traced, and before that it is a copy of godwit.
is_running() {
	"$HOSTS" on "$1" sh -c "grep -q '^TracerPid:.0\$' /proc/$pid/status &&
		! [ /proc/$pid/exe -ef '$GODWIT' ] && ! grep -q '^State:.[TtZ]' /proc/$pid/status"
}

# move_address FROM TO: behind restore, so that it never is where the sockets aren't
move_address() {
	"$HOSTS" on "$1" ip addr del "$service/24" dev eth0
	"$HOSTS" on "$2" ip addr add "$service/24" dev eth0
	"$HOSTS" on "$2" arping -q -U -c 1 -I eth0 "$service"
}

echo "--- a program that sleeps, and ends with a status of its own"
pid=$(start_on a /dev/null sh -c 'trap "exit 7" TERM; while :; do sleep 1000 & wait; done')
! on_a "$GODWIT" dump --tree "$pid" --images-dir $images --leave-stopped 2>"$SHARED/message" || fail "saved with a child"
on_a kill -KILL "$pid"
pid=$(start_on a /dev/null python3 -c '
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
while True: signal.pause()')
wait_until on_a grep -q '^SigCgt:.*4002$' "/proc/$pid/status"
save_stopped a
copy_images a b
bring_back_waiting b
on_a kill -KILL "$pid"
wait_gone a "$pid"
# What is sent to restore goes to the program, and its status is the program's.
on_b kill -TERM "$restore"
status=0
wait $waiting || status=$?
[ "$status" = 7 ] || fail "restore ended with status $status, not with that of the program"

echo "--- a program that belongs to a shell's session"
pid=$(start_on a "$SHARED/shell.log" sh -c 'sleep 1000 & echo $! >"$0"; wait' "$SHARED/job")
wait_until test -s "$SHARED/job"
shell=$pid pid=$(cat "$SHARED/job")
save_stopped a --shell-job
scp_images a b
bring_back_waiting b --shell-job
on_a kill -KILL "$pid"
wait_gone a "$pid"
wait_gone a "$shell"
on_b kill -TERM "$pid"
wait_gone b "$restore"

echo "--- redis with clients"
take_address
pid=$(start_on a /dev/null redis-server --bind "$service" --port 6379 --protected-mode no --save '' --dir /)
wait_until answers 6379
start_counter -c 10
count_on 500
# First it fails over there, and the way back is as it should be.
save_stopped a --tcp-established
on_a "$GODWIT" resolve --list | grep -q "process $pid (redis-server)" || fail "resolve --list doesn't name it"
copy_images a b
on_b rm $images/pstree.img
! on_b "$GODWIT" restore --images-dir $images --tcp-established 2>"$SHARED/message" || fail "restored from half the images"
on_a "$GODWIT" resolve --thaw "$pid"
count_on 500

save_stopped a --tcp-established
copy_images a b
bring_back_waiting b --tcp-established
move_address a b
count_on 500
on_a kill -KILL "$pid"
wait_gone a "$pid"
count_on 500

echo "--- and back"
save_stopped b --tcp-established
copy_images b a
bring_back_waiting a --tcp-established
move_address b a
count_on 500
on_b kill -KILL "$pid"
wait_gone b "$pid"
count_on 500

# Its address is still here when the original is killed, so this is where a word to the peers would be heard.
echo "--- on the same host"
save_stopped a --tcp-established
on_a kill -KILL "$pid"
wait_gone a "$pid"
bring_back_waiting a --tcp-established
count_on 500
stop_counter
# Whose program is gone by now, that lock the next run removes.
on_b "$GODWIT" resolve
[ -z "$(on_a "$GODWIT" resolve --list)$(on_b "$GODWIT" resolve --list)" ] ||
	fail "something is undecided: $(on_a "$GODWIT" resolve --list) $(on_b "$GODWIT" resolve --list)"
! on_a nft list tables | grep godwit || fail "a lock is left on a"
! on_b nft list tables | grep godwit || fail "a lock is left on b"
