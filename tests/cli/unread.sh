#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 unread.sh: events that wait to be read are nothing that can be carried, but something that passes: the
# program is looked at, or stopped, once more. What it never reads is named.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
# shellcheck source=tests/lib/carry.sh
. "$(dirname "$0")/../lib/carry.sh"
folder=$SHARED/unread
host=a

mkdir -p "$folder/watched" "$SHARED/images"
pid=$(start_on a "$SHARED/program.log" /usr/bin/python3 "$(dirname "$0")/unread.py" "$folder")
wait_for "$folder/ready"

make_event() {
	rm -f "$folder/made"
	on "$host" kill -USR2 "$pid"
	wait_for "$folder/made"
}

read_events() {
	rm -f "$folder/read"
	on "$host" kill -USR1 "$pid"
	wait_for "$folder/read"
}

godwit_is_stopped() { on "$host" sh -c "ps -o stat= -p \$(pgrep -f '^[^ ]*godwit (dump|migrate)') | grep -q T"; }

# read_when_stopped: then godwit goes on, and the program has read everything
read_when_stopped() {
	wait_until godwit_is_stopped
	read_events
	on "$host" pkill -CONT -f '^[^ ]*godwit (dump|migrate)' || fail "godwit has ended"
}

make_event
! on a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images" --leave-running 2>"$SHARED/errors.log" ||
	fail "saved with events that wait"
grep -q 'inotify): [0-9]* bytes of events wait' "$SHARED/errors.log" || fail "they are not named"
grep -qF 'hint:  try again when the program has read them' "$SHARED/errors.log" || fail "it isn't said what to do"
echo "ok what is never read is named"

export GODWIT_TEST_STOP_AT=unread:STOP
save look --leave-running &
saving=$!
read_when_stopped
wait "$saving" || fail "it was not looked at again"
echo "ok a second look"

# Between the look and the freeze, by a script.
cat >"$SHARED/make" <<SCRIPT
#!/bin/sh
[ "\$CRTOOLS_SCRIPT_ACTION" = pre-dump ] || exit 0
rm -f $folder/made
kill -USR2 \$CRTOOLS_INIT_PID
while [ ! -e $folder/made ]; do sleep 0.01; done
SCRIPT
chmod +x "$SHARED/make"
export GODWIT_TEST_STOP_AT=again:STOP
save freeze --leave-running --action-script "$SHARED/make" &
saving=$!
read_when_stopped
wait "$saving" || fail "it was not stopped again"
echo "ok a second stop"

move b --action-script "$SHARED/make" &
moving=$!
read_when_stopped
wait "$moving" || fail "it was not stopped again"
unset GODWIT_TEST_STOP_AT
host=b
echo "ok a second stop before it moves"

make_event
read_events
on b kill -TERM "$pid"
wait_gone b "$pid"
[ -e "$folder/empty" ] || fail "there are events that nobody made"
