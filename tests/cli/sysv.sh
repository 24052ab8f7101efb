#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 sysv.sh SUBJECT shm|sem|msg: what a program has of System V moves with it, and nothing of it is left behind: not where it
# has been, nor where it was to come when that fails. What is in its way is named before it stops.
set -eu
subject=$1 kind=$2
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

on() { "$HOSTS" on "$@"; }
objects() { on "$1" cat /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg | grep -vc perms || true; }
nothing_on() { [ "$(objects "$1")" -eq 0 ]; }
has_nothing() { nothing_on "$1" || fail "$2: $(on "$1" ipcs)"; }
start() {
	dir=$SHARED/$1
	mkdir "$dir"
	pid=$(start_on a "$SHARED/$1.log" "$subject" "$dir")
	wait_for "$dir/ready"
	[ ! -e "$dir/verdict" ] || fail "$(cat "$dir/verdict")"
	count=$(objects a)
}
check_on() {
	on "$1" kill -USR1 "$pid"
	wait_for "$dir/verdict"
	[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
}
# migrate [PROGRAM [OPTION...]]
migrate() {
	program=${1:-$GODWIT}
	[ $# -eq 0 ] || shift
	on_a timeout 60 "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$program" "$@" >"$SHARED/migrate.log" 2>&1
}
told() { grep -qE -- "$1" "$SHARED/migrate.log" || fail "not told: $1; but $(cat "$SHARED/migrate.log")"; }
is_here() {
	[ "$(on_a ps -o stat= -p "$pid")" ] || fail "$1: it isn't here any more"
	[ "$(objects a)" -eq "$count" ] || fail "$1: $(objects a) objects, not $count: $(on_a ipcs)"
}

start moved
[ "$count" -gt 0 ] || fail "the subject has nothing of System V"

first_id() { on_a awk 'NR == 2 { print $2 }' "/proc/sysvipc/$1"; }
# take_id HOST KIND GET ARGUMENTS ID: somebody there has an object with that id
take_id() {
	on "$1" sh -c "echo $5 >/proc/sys/kernel/$2_next_id"
	on "$1" perl -e "defined $3(0, $4) or die \$!"
	on "$1" grep -q " $5 " "/proc/sysvipc/$2" || fail "$2 $5 isn't taken on $1"
}
# take_key KIND GET ARGUMENTS: somebody on b has one with the key that one of the program's has
take_key() {
	key=$(on_a awk '$1 != 0 && NR > 1 { print $1; exit }' "/proc/sysvipc/$1")
	on_b sh -c "echo 77 >/proc/sys/kernel/$1_next_id"
	on_b perl -e "defined $2($key, $3) or die \$!"
}
refused() {
	! migrate || fail "moved, though $1"
	told "its $2 is in use here by"
	told "ipcrm -"
	is_here "$1"
	on_b ipcrm -a
	has_nothing b "ipcrm"
	echo "ok refused before the freeze: $1"
}
case $kind in
shm) get=shmget arguments='4096, 01600' ;;
sem) get=semget arguments='1, 01600' ;;
msg) get=msgget arguments='01600' ;;
esac
take_id b "$kind" "$get" "$arguments" "$(first_id "$kind")"
refused "an id is taken" id
take_key "$kind" "$get" "$arguments"
refused "a key is taken" key

# Somebody outside of the program waits for one of its semaphores, the second one.
if [ "$kind" = sem ]; then
	id=$(first_id sem)
	waiter=$(start_on a "$SHARED/waiter.log" perl -e "semop($id, pack('s!3', 1, -9, 0))")
	# 14: GETNCNT of semctl(2)
	is_waiting() { on_a perl -e "exit(semctl($id, 1, 14, 0) == 0)"; }
	wait_until is_waiting
	! migrate || fail "moved, though a stranger waits"
	told "System V semaphores $id, which a process outside of it waits for"
	is_here "a stranger waits"
	on_a kill -KILL "$waiter"
	wait_gone a "$waiter"
	has_nothing b "a stranger waits"
	echo "ok a stranger who waits is told of"
fi

# A receive that is killed, before and after the objects are there.
for phase in destination-prepared destination-ready; do
	cat >"$SHARED/killer" <<-SCRIPT
		#!/bin/sh
		GODWIT_TEST_STOP_AT=$phase exec $GODWIT "\$@"
	SCRIPT
	chmod +x "$SHARED/killer"
	! migrate "$SHARED/killer" || fail "moved, though receive was killed at $phase"
	is_here "killed at $phase"
	wait_until nothing_on b || fail "killed at $phase: $(on_b ipcs)"
done
cat >"$SHARED/refuse" <<"SCRIPT"
#!/bin/sh
[ "$CRTOOLS_SCRIPT_ACTION" != post-dump ]
SCRIPT
chmod +x "$SHARED/refuse"
! migrate "$GODWIT" --action-script "$SHARED/refuse" || fail "moved, though a script refused"
is_here "a script refused"
has_nothing b "a script refused"
echo "ok a move that fails leaves nothing there, and all here"

migrate || fail "did not move: $(cat "$SHARED/migrate.log")"
wait_gone a "$pid"
has_nothing a "moved"
[ "$(objects b)" -eq "$count" ] || fail "moved: $(objects b) objects, not $count"
check_on b
echo "ok nothing stays where it was"

# The source dies behind the point of no return: its keeper ends the copy.
start killed
! on_a env GODWIT_TEST_STOP_AT=go timeout 60 "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" \
	>"$SHARED/migrate.log" 2>&1 || fail "not killed at go"
wait_gone a "$pid"
wait_until nothing_on a || fail "killed behind committed: $(on_a ipcs)"
check_on b
echo "ok nothing stays when the source is killed"

# The same for a dump.
start saved
mkdir "$SHARED/images" "$SHARED/later"
! on_a env GODWIT_TEST_STOP_AT=committed "$GODWIT" dump -t "$pid" -D "$SHARED/images" || fail "not killed at committed"
wait_gone a "$pid"
wait_until nothing_on a || fail "dump killed behind committed: $(on_a ipcs)"
on_a "$GODWIT" restore -d -D "$SHARED/images"
id=$(first_id "$kind")
on_a "$GODWIT" dump -t "$pid" -D "$SHARED/later"
has_nothing a "dumped"
take_id a "$kind" "$get" "$arguments" "$id"
if on_a "$GODWIT" restore -d -D "$SHARED/later" >"$SHARED/migrate.log" 2>&1; then
	fail "restored over an id that is taken"
fi
told "in use here"
[ "$(objects a)" -eq 1 ] || fail "a restore that is refused leaves $(on_a ipcs)"
on_a ipcrm -a
on_a "$GODWIT" restore -d -D "$SHARED/later"
check_on a
echo "ok the same for a dump"
