#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 refused.sh PROGRAM: what can't be carried is refused by its name, and the program runs on unharmed. What
# this kernel or processor doesn't have can't be tried.
set -eu
program=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

is_counted() { [ "$(cat "$1")" = "$2" ]; }

# expect KIND TEXT
expect() {
	state=$SHARED/$1
	pid=$(start_on a "$SHARED/$1.log" "$program" "$1" "$state")
	wait_until test -e "$state" -o -s "$SHARED/$1.log"
	if [ ! -e "$state" ]; then
		echo "not here: $(cat "$SHARED/$1.log")"
		return
	fi
	mkdir "$SHARED/images"
	! on_a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images" 2>"$SHARED/errors.log" ||
		fail "$1 is not refused"
	grep -qF "$2" "$SHARED/errors.log" || fail "$1: the error doesn't say '$2'"
	grep -q "The program runs on" "$SHARED/errors.log" || fail "$1: it isn't said that the program runs on"
	on_a kill -USR1 "$pid"
	wait_until is_counted "$state" 1
	on_a kill -KILL "$pid"
	rmdir "$SHARED/images" || fail "$1: something stays in the folder"
}

expect dispatch "syscall user dispatch"
expect ldt "segments of its own (modify_ldt(2))"
expect no-vdso "it has no vDSO"
expect notify "asks another process (SECCOMP_RET_USER_NOTIF)"
expect ports "it may use I/O ports"
expect thread-clock "POSIX timer 0 on clock -2"
expect aio "a ring of io_setup(2)"
expect breakpoint "a breakpoint: somebody traces this program"
expect common-memfd "has this memfd, too"
expect common-memory "is mapped by process"
expect idle-userfaultfd "userfaultfd"
expect io_uring "a ring of io_uring(7)"
expect message-queue "System V message queue 0, which process "
expect posix-queue "a message queue of mq_open(3)"
expect secret "secret memory (memfd_secret(2))"
expect semaphores "which no process of it was the last to use"
expect unattached-memory "has made and nobody has attached"
expect userfaultfd "registered with a userfaultfd of the program's own"
