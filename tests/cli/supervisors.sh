#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 supervisors.sh SUBJECT: who will see the program's copy end is named before it is moved, with what it does
# then. --stop-unit stops the unit when the program runs over there and before the copy has ended. There is no systemd
# here: control groups have its names, and a systemctl of ours answers.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

bin=$SHARED/bin
mkdir "$bin"
cat >"$bin/systemctl" <<SCRIPT
#!/bin/sh
echo "\$*" >>$SHARED/asked
case \$1 in
show) cat $SHARED/settings ;;
stop)
	grep -q '^State:.[^ZX]' "/proc/\$(cat $SHARED/pid)/status" || echo "stopped too late" >>$SHARED/asked
	[ ! -e $SHARED/refuses ] || { echo "Access denied" >&2; exit 4; }
	;;
esac
SCRIPT
chmod +x "$bin/systemctl"

top=$(on_a sed -nE '/ - cgroup2 /!d; s/^([^ ]+ ){4}([^ ]+) .*/\2/p' /proc/self/mountinfo | head -n 1)
unit=moved-$(cat /proc/sys/kernel/random/uuid).service
if [ -z "$top" ] || ! on_a mkdir "$top/$unit" 2>"$SHARED/mkdir.log"; then
	echo "SKIP: no control groups of version 2 can be made here"
	exit 77
fi

# start NAME: a program in that unit
start() {
	dir=$SHARED/$1
	mkdir "$dir"
	pid=$(start_on a "$SHARED/$1.log" sh -c "echo \$\$ >$top/$unit/cgroup.procs; exec \"\$@\"" sh "$subject" "$dir")
	echo "$pid" >"$SHARED/pid"
	wait_for "$dir/ready"
	: >"$SHARED/asked"
}
# settings RESTART [LINE]...
settings() {
	restart=$1
	shift
	printf '%s\n' "MainPID=$pid" "Restart=$restart" "$@" >"$SHARED/settings"
}
# moved OPTION...: to b
moved() {
	on_a env PATH="$bin:$PATH" "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" "$@" \
		>"$SHARED/migrate.log" 2>&1 || fail "it did not move"
	wait_gone a "$pid"
	on_b kill -USR1 "$pid"
	wait_for "$dir/verdict"
	[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
	wait_gone b "$pid"
}
told() { grep -qF -- "$1" "$SHARED/migrate.log" || fail "not told: $1"; }
untold() { ! grep -qF -- "$1" "$SHARED/migrate.log" || fail "told: $1"; }

# ends_with STATUS OPTION...: so its parent here sees it end
ends_with() {
	expected=$1 dir=$SHARED/ends-with-$1
	shift
	mkdir "$dir"
	# shellcheck disable=SC2016
	on_a sh -c 'setsid "$0" "$1" </dev/null >"$1.log" 2>&1 & echo $! >"$2"; wait $!; echo $? >"$1/status"' \
		"$subject" "$dir" "$SHARED/pid" &
	parent=$!
	wait_for "$dir/ready"
	pid=$(cat "$SHARED/pid")
	moved "$@"
	wait "$parent"
	[ "$(cat "$dir/status")" = "$expected" ] || fail "it ended with $(cat "$dir/status"), not with $expected"
}
ends_with 0
ends_with 7 --source-exit 7
ends_with 137 --source-exit KILL
echo "ok how the copy here ends"

start failure
settings on-failure
moved
told "note: the unit $unit of systemd will see its copy here end with status 0, and Restart=on-failure leaves it at that"
! grep -q stop "$SHARED/asked" || fail "the unit was stopped unasked"
echo "ok a unit that leaves it at that"

start killed
settings on-failure
moved --source-exit KILL
told "warning: the unit $unit of systemd will see its copy here end by SIGKILL, and Restart=on-failure starts it again here"
told "--stop-unit stops it when the program runs over there"
echo "ok a unit that starts it again"

start prevented
settings always RestartPreventExitStatus="3 7"
moved --source-exit 7
told "end with status 7, and Restart=always leaves it at that"
echo "ok a status that forbids it"

start other
settings always
echo "MainPID=1" >>"$SHARED/settings"
sed -i "/^MainPID=$pid\$/d" "$SHARED/settings"
moved
told "note: it is in the unit $unit of systemd, whose main process is another one (1)"
echo "ok not the main process"

start stopped
settings always TriggeredBy=moved.socket
moved --stop-unit
told "Restart=always starts it again here; what starts the unit by itself: moved.socket: the unit is stopped when"
[ "$(tail -n 1 "$SHARED/asked")" = "stop --no-block -- $unit" ] || fail "systemctl was asked: $(cat "$SHARED/asked")"
untold "could not be stopped"
echo "ok --stop-unit"

start refused
settings always
touch "$SHARED/refuses"
moved --stop-unit
told "warning: the unit $unit could not be stopped, and may start the program again here"
told "Access denied"
echo "ok a unit that can't be stopped is a warning"

start saved
settings always
mkdir "$SHARED/images"
on_a env PATH="$bin:$PATH" "$GODWIT" dump -t "$pid" -D "$SHARED/images" 2>"$SHARED/migrate.log"
told "warning: the unit $unit of systemd will see its copy here end by SIGKILL, and Restart=always starts it again here"
wait_gone a "$pid"
on_a rmdir "$top/$unit"
echo "ok dump"

# Without a unit: the parent.
cat >"$bin/runsv" <<'SCRIPT'
#!/bin/sh
"$@" </dev/null >/dev/null 2>&1 &
echo $! >"$PIDFILE.new"
mv "$PIDFILE.new" "$PIDFILE"
wait
SCRIPT
chmod +x "$bin/runsv"
dir=$SHARED/parent
mkdir "$dir"
parent=$(start_on a "$SHARED/parent.log" env PIDFILE="$SHARED/parent.pid" "$bin/runsv" setsid "$subject" "$dir")
wait_for "$SHARED/parent.pid"
pid=$(cat "$SHARED/parent.pid")
wait_for "$dir/ready"
! on_a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$GODWIT" --stop-unit >"$SHARED/migrate.log" 2>&1 ||
	fail "moved without a unit to be stopped"
told "process $pid is in no unit of systemd"
moved
told "warning: its parent, process $parent (runsv), will see its copy here end with status 0, and starts it again here"
told "sv once"
echo "ok a parent"
