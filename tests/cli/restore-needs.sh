#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 restore-needs.sh: what the host lacks on which a program is to be restored is told before anything is
# made, all at once: what migrate asks the other host for, too.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
# shellcheck source=tests/lib/carry.sh
. "$(dirname "$0")/../lib/carry.sh"
host=a
mkdir "$SHARED/images"
echo text >"$SHARED/file"

# Its session was made by somebody who has gone.
cat >"$SHARED/program.py" <<'END'
import os, time
file = open("/run/shared/file")
if os.fork():
    os._exit(0)
while os.getppid() != 1:
    time.sleep(0.005)
open("/run/shared/new", "w").write(f"{os.getpid()} {os.getsid(0)}\n")
os.rename("/run/shared/new", "/run/shared/ids")
while not os.path.exists("/run/shared/end"):
    time.sleep(0.005)
END
start_on a "$SHARED/program.log" /usr/bin/python3 -S "$SHARED/program.py" >/dev/null
wait_for "$SHARED/ids"
read -r pid session <"$SHARED/ids"
save one
wait_gone a "$pid"

mv "$SHARED/file" "$SHARED/moved"
# shellcheck disable=SC2016 # for the other shell
on b sh -c 'sed "s/^MemAvailable:.*/MemAvailable: 100 kB/; s/^SwapFree:.*/SwapFree: 0 kB/" /proc/meminfo >/run/meminfo
	sed "s/^\(flags.*\) sse4_2\>/\1/" /proc/cpuinfo >/run/cpuinfo
	echo 300 >/run/pid_max
	for name in meminfo cpuinfo sys/kernel/pid_max; do mount --bind /run/${name##*/} /proc/$name || exit 1; done'
# shellcheck disable=SC2016
on b sh -c 'umount /proc/sys/kernel/pid_max; echo $(($1 - 1)) >/proc/sys/kernel/ns_last_pid
	sleep 1000 </dev/null >/dev/null 2>&1 & [ $! = "$1" ]; mount --bind /run/pid_max /proc/sys/kernel/pid_max' hold "$session" ||
	fail "PID $session could not be taken on b"

restore() { on b "$GODWIT" restore --images-dir "$SHARED/images/one" --restore-detached "$@" 2>"$SHARED/errors.log"; }

! restore || fail "restored, though much is lacking"
for needle in "the program can't run here:" "process group $session of the program is in use here by process $session (" \
	"MB of memory, and 0 MB are free here" "the processor here lacks: sse4_2" "PID $pid of the program is above all PIDs here" \
	"$SHARED/file: missing here" "Nothing was restored."; do
	grep -qF -e "$needle" "$SHARED/errors.log" || fail "nothing says '$needle'"
done
! on b pgrep python3 >/dev/null || fail "something was made"
echo "ok all that is lacking is told at once"

mv "$SHARED/moved" "$SHARED/file"
on b umount /proc/meminfo
on b umount /proc/sys/kernel/pid_max
on b kill -KILL "$session"
wait_gone b "$session"
! restore || fail "restored without sse4_2"
[ "$(grep -c "^       " "$SHARED/errors.log")" = 2 ] || fail "more than the processor is lacking"
restore --cpu-cap none || fail "--cpu-cap none doesn't help"
touch "$SHARED/end"
wait_gone b "$pid"
echo "ok --cpu-cap says what of the processor has to be there"
