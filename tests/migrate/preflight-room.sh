#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 2 preflight-room.sh: the other host has too little memory, another processor or others, lower limits, or its
# ports are in use. Each is refused by name before the program is stopped for the first time, and it runs on.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

cat >"$SHARED/server.py" <<'END'
import resource, signal, socket
memory = b"\1" * (100 << 20)
tcp = socket.create_server(("0.0.0.0", 7001))
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 7002))
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 3000))
open("/run/shared/ready", "w").close()
while True:
    signal.pause()
END
pid=$(start_on a "$SHARED/server.log" taskset -c 0 /usr/bin/python3 -S "$SHARED/server.py")
wait_for "$SHARED/ready"

# remote PREPARATION [WRAPPER]...: how godwit receive is started over there
remote() {
	prepare=$1
	shift
	cat >"$SHARED/remote" <<SCRIPT
#!/bin/sh
set -eu
$prepare
exec $* $GODWIT "\$@"
SCRIPT
	chmod +x "$SHARED/remote"
}
# What of /proc is shown to it: show FILE
show() { echo "mount --bind $SHARED/$1 /proc/$2"; }

# stops: a stop against its will counts
stops() { on_a sh -c "cat /proc/$pid/task/*/status | grep ctxt_switches"; }
try() {
	if on_a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$SHARED/remote" "$@" \
		>"$SHARED/migrate.log" 2>&1; then
		fail "migrated, though it could not work there"
	fi
	[ "$(stops)" = "$before" ] || fail "the program has been stopped"
}
told() { grep -qE -- "$1" "$SHARED/migrate.log" || fail "not told: $1"; }
untold() { ! grep -qE -- "$1" "$SHARED/migrate.log" || fail "told: $1"; }
before=$(stops)

# ---- Memory and processor ----

sed -E 's/^(MemAvailable|SwapFree):.*/\1: 1024 kB/' /proc/meminfo >"$SHARED/meminfo"
flag=$(grep -owE 'sse4_2|ssse3|avx' /proc/cpuinfo | head -n 1)
sed -E "s/ $flag( |\$)/ /" /proc/cpuinfo >"$SHARED/cpuinfo"
inside=$(show meminfo meminfo)
inside="$inside; $(show cpuinfo cpuinfo)"

# As in a container: the top that is mounted is a group with a limit.
group=room-$(cat /proc/sys/kernel/random/uuid)
top=$(on_b sed -nE '/ - cgroup .*[ ,]memory(,|$)/!d; s/^([^ ]+ ){4}([^ ]+) .*/\2/p' /proc/self/mountinfo | head -n 1)
mounting="cgroup -o memory" limit=memory.limit_in_bytes
[ "$top" ] || {
	top=$(on_b sed -nE '/ - cgroup2 /!d; s/^([^ ]+ ){4}([^ ]+) .*/\2/p' /proc/self/mountinfo | head -n 1)
	mounting=cgroup2 limit=memory.max
}
limited=
if on_b mkdir "$top/$group" 2>"$SHARED/mkdir.log" && on_b sh -c "echo 64M >$top/$group/$limit"; then
	limited=1
	join="echo \$\$ >$top/$group/cgroup.procs"
	inside="$inside; umount $top; mount -t $mounting none $top"
fi

remote "${join:-}" unshare --mount --cgroup sh -euc "'$inside; exec \"\$@\"'" sh
try
told "the program has 1[0-9][0-9] MB of memory, and 2 MB are free here"
told "the processor here lacks: $flag"
[ ! "$limited" ] ||
	told "the program has 1[0-9][0-9] MB of memory, and its control group here, $top, has [0-9]{1,2} MB left"
echo "ok memory and processor"
try --cpu-cap none
told "MB are free here"
untold "the processor here lacks"
echo "ok the processor is not compared where that is asked"
[ ! "$limited" ] || on_b rmdir "$top/$group"

# With one processor it is bound to nothing that it could lack.
if [ "$(nproc)" -gt 1 ]; then
	echo 5000 >"$SHARED/online"
	remote '' unshare --mount sh -euc "'mount --bind $SHARED/online /sys/devices/system/cpu/online; exec \"\$@\"'" sh
	try
	told "it is bound to processors that this host doesn't have"
	echo "ok processors that it is bound to"
fi

# ---- Ports and limits ----

cat >"$SHARED/holder.py" <<'END'
import signal, socket
tcp = socket.create_server(("0.0.0.0", 7001))
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 7002))
open("/run/shared/held", "w").close()
signal.pause()
END
holder=$(start_on b "$SHARED/holder.log" /usr/bin/python3 -S "$SHARED/holder.py")
wait_for "$SHARED/held"
echo 1500 >"$SHARED/nr_open"
remote '' unshare --mount sh -euc "'$(show nr_open sys/fs/nr_open); exec \"\$@\"'" sh
try
told "TCP socket at 0.0.0.0:7001: .*Address already in use"
told "UDP socket at \[::\]:7002: .*Address already in use"
told "its limit of open files is 2000, and godwit may give it 1500 at most"
echo "ok ports, and the limit that nobody may exceed"

on_b kill -KILL "$holder"
wait_gone b "$holder"
remote 'ulimit -n 1000' setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource
try
untold "Address already in use"
told "its limit of open files is 2000, and godwit may give it 1000 at most"
echo "ok the limit of godwit"

# A lower hard limit alone is no obstacle.
echo 2500 >"$SHARED/nr_open"
remote '' unshare --mount sh -euc "'$(show nr_open sys/fs/nr_open); exec \"\$@\"'" sh
on_a "$GODWIT" migrate "$pid" b --ssh "$HOSTS ssh" --remote-path "$SHARED/remote" >"$SHARED/migrate.log" 2>&1 ||
	fail "nothing was lacking any more"
wait_gone a "$pid"
on_b grep -qE '^Max open files +2000 +2500 ' "/proc/$pid/limits" ||
	fail "its limits are $(on_b grep 'Max open' "/proc/$pid/limits")"
echo "ok it moves, with the highest limit there is"
