#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run hosts_test.sh: the hosts are what tests believe them to be.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/hosts.sh"

[ "$(on_a hostname) $(on_b hostname) $(on_client hostname)" = "a b client" ] || fail "host names"

# What a program is given: arguments, environment, folder, standard streams, status.
[ "$(cd / && WORD=x on_a sh -c 'printf "%s " "$@" "$WORD" "$PWD"' sh 'a b' '')" = "a b  x / " ] || fail "what arrives"
[ "$(echo in | on_b cat)" = in ] || fail "standard input"
status=0
on_a sh -c 'exit 7' || status=$?
[ $status -eq 7 ] || fail "status $status, not 7"
[ "$(on_a sh -c 'ls /proc/self/fd | wc -w')" -eq 4 ] || fail "descriptors leak into programs"

# A program that is left running: its PID, its own session, its parent; the other host doesn't see it.
pid=$(start_on a "$SHARED/log" sh -c 'echo here; exec sleep 1000')
[ "$(on_a cat "/proc/$pid/comm")" = sh ] || wait_until on_a grep -q sleep "/proc/$pid/comm"
[ "$(on_a ps -o ppid=,sid= -p "$pid" | tr -s ' ')" = " 1 $pid" ] || fail "parent or session"
[ "$(cat "$SHARED/log")" = here ] || fail "log"
on_b test ! -e "/proc/$pid" || fail "b sees a program of a"
on_a kill "$pid"
wait_gone a "$pid"

# The network, and that a cut link is a cut link.
start_on b "$SHARED/server.log" /usr/bin/python3 -c '
import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline())
socketserver.ThreadingTCPServer(("10.77.0.2", 7000), Echo).serve_forever()' >/dev/null
ask() {
	on_client timeout "${1:-10}" /usr/bin/python3 -c '
import socket
s = socket.create_connection(("10.77.0.2", 7000))
s.sendall(b"tick\n")
assert s.recv(5) == b"tick\n"'
}
wait_until ask
on_b ip link set eth0 down
! ask 0.3 2>/dev/null || fail "the link is not cut"
on_b ip link set eth0 up
wait_until ask

# Own /run, shared $SHARED.
on_a touch /run/of-a "$SHARED/of-a"
on_b test ! -e /run/of-a || fail "/run is shared"
on_b test -e "$SHARED/of-a" || fail "$SHARED is not shared"

# A lab goes whole when whoever asked for it is killed, even by a signal that can't be caught.
"$HOSTS" run -n 1 sh -c '"$HOSTS" start a /dev/null sleep 1234.5 && exec sleep 1234.5' >/dev/null &
runner=$!
both_run() { [ "$(pgrep -cfx 'sleep 1234.5')" -eq 2 ]; }
none_runs() { [ "$(pgrep -cfx 'sleep 1234.5')" -eq 0 ]; }
wait_until both_run
kill -KILL "$runner"
wait_until none_runs
