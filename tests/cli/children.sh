#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 children.sh: children that end within --wait-children are waited for, before and in the freeze; others
# are named, and the program runs on unharmed.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
# shellcheck source=tests/lib/carry.sh
. "$(dirname "$0")/../lib/carry.sh"
program=$(dirname "$0")/children.py
host=a

# start KIND: the program, with a folder of its own
start() {
	folder=$SHARED/$1
	rm -rf "$folder" "$SHARED/images"
	mkdir -p "$folder" "$SHARED/images/one"
	pid=$(start_on "$host" "$folder.log" /usr/bin/python3 -S "$program" "$1" "$folder")
	wait_for "$folder/ready"
}

# The program has got all its children's exit statuses, and runs.
check() {
	touch "$folder/ask" "$folder/enough"
	wait_for "$folder/alive"
	[ ! -e "$folder/lost" ] || fail "the exit status of a child has been lost"
	wait_gone "$host" "$pid"
}

# refused NEEDLE COMMAND...: at once, and nothing has been done
refused() {
	needle=$1
	shift
	! on "$host" "$GODWIT" "$@" 2>"$SHARED/errors.log" || fail "not refused: $*"
	grep -qF -e "$needle" "$SHARED/errors.log" || fail "nothing says '$needle'"
}

# By its own choice, since the program runs once more
dump_is_stopped() { on a sh -c "ps -o stat= -p \$(pgrep -f 'godwit dump --tree $pid ') | grep -q T"; }

# save_all OPTION...: with all processes that it has, and it runs on
save_all() {
	on a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images/one" --leave-running --wait-children 0 "$@" ||
		fail "not saved with its children"
}

start one
child=$(on a cat "/proc/$pid/task/$pid/children")
save_all
[ -e "$SHARED/images/one/mm-${child% }.img" ] || fail "the child isn't saved"
refused "it has child processes: " pre-dump --tree "$pid" --images-dir "$SHARED/images/one" --wait-children 0
grep -q "(python3)" "$SHARED/errors.log" || fail "the child isn't named"
grep -qF "hint:  end the children, or let godwit wait for their end: --wait-children" \
	"$SHARED/errors.log" || fail "it isn't said what to do"
refused "is more than 86400" dump --tree "$pid" --images-dir "$SHARED/images/one" --wait-children 100000
rm -r "$SHARED/images/one"
mkdir "$SHARED/images/one"
echo "ok a child that goes on is saved, too, or named"

# It ends while godwit waits, which begins to wait when it has begun.
save one --wait-children 600 &
saving=$!
wait_until on a pgrep -f "godwit dump --tree $pid "
kill -0 "$saving" || fail "dump has not waited"
on a kill -0 "$pid" || fail "dump has not waited"
touch "$folder/end"
wait "$saving" || fail "dump has not waited for the child"
wait_gone a "$pid"
bring_back one
check
echo "ok a child that ends is waited for"

start unfetched
touch "$folder/end"
wait_until on a sh -c "ps -o stat= --ppid $pid | grep -q Z"
refused "it has children that have ended, but whose exit status waits: " \
	pre-dump --tree "$pid" --images-dir "$SHARED/images/one" --wait-children 0
grep -qF "hint:  the program itself has to fetch it (wait(2))" "$SHARED/errors.log" || fail "it isn't said what to do"
check
echo "ok an exit status that nobody has fetched is told"

# Born between the look at the program and the freeze, by a script.
cat >"$SHARED/bear" <<SCRIPT
#!/bin/sh
[ "\$CRTOOLS_SCRIPT_ACTION" = pre-dump ] || exit 0
kill -USR1 \$CRTOOLS_INIT_PID
while [ ! -e $SHARED/when-asked/born ]; do sleep 0.01; done
SCRIPT
chmod +x "$SHARED/bear"
start when-asked
save_all --action-script "$SHARED/bear"
child=$(on a cat "/proc/$pid/task/$pid/children")
[ -e "$SHARED/images/one/mm-${child% }.img" ] || fail "the child isn't saved"
touch "$folder/end"
check
start when-asked
export GODWIT_TEST_STOP_AT=again:STOP
save one --wait-children 600 --action-script "$SHARED/bear" &
saving=$!
unset GODWIT_TEST_STOP_AT
wait_until dump_is_stopped
touch "$folder/end"
on a pkill -CONT -f "godwit dump --tree $pid " || fail "dump has ended"
wait "$saving" || fail "dump has not waited for the child"
wait_gone a "$pid"
bring_back one
check
echo "ok a child that is born behind the look is seen in the freeze"

start many
move b --wait-children 600
move a --wait-children 600
move b --wait-children 600 --max-rounds 0
check
echo "ok a program that always has children moves between two of them"
