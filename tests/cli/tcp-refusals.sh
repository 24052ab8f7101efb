#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 tcp-refusals.sh: sockets of TCP that can't be carried even with --tcp-established are named for what they
# are, and the program runs on.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

message=$SHARED/message
mkdir "$SHARED/images"

# Each descriptor has a number of its own, so that none is taken for another.
cat >"$SHARED/program.py" <<'PYTHON'
import os, select, signal, socket, struct, sys
def keep(number, fd):
    os.dup2(fd, number)
    os.close(fd)
signed = socket.socket()
signed.bind(("127.0.0.1", 0))
try:
    peer = struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton("10.1.2.3")).ljust(128, b"\0")
    signed.setsockopt(socket.IPPROTO_TCP, 14, peer + struct.pack("BBHIi", 0, 0, 6, 0, 0) + b"secret".ljust(80, b"\0"))
except OSError:  # a kernel without TCP_MD5SIG
    signed = None
if signed:
    signed.listen()
    keep(20, signed.detach())
listener = socket.create_server(("127.0.0.1", 0))
one = socket.create_connection(listener.getsockname())
other = listener.accept()[0]
other.send(b"!", socket.MSG_OOB)
keep(21, one.detach())
making = socket.socket()
making.setblocking(False)
making.connect_ex(("127.0.0.1", 9))
keep(22, making.detach())
failed = socket.socket()
failed.setblocking(False)
failed.connect_ex(("127.0.0.1", 8))
select.select([], [failed], [])
keep(23, failed.detach())
open(sys.argv[1], "w").close()
while True:
    signal.pause()
PYTHON
on_a nft -f - <<'NFT'
table inet deaf {
	chain out {
		type filter hook output priority 0
		tcp dport 9 drop
	}
}
NFT
pid=$(start_on a /dev/null python3 "$SHARED/program.py" "$SHARED/ready")
wait_for "$SHARED/ready"

! on_a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images" --tcp-established 2>"$message" || fail "it was saved"
cat "$message"

# told FD WHAT: where this kernel let the program have it
told() {
	on_a test -e "/proc/$pid/fd/$1" || return 0
	sed -n "/fd $1 (socket/,/fd /p" "$message" | grep -q "$2" || fail "fd $1 isn't named: $2"
}
told 20 "keys that sign its segments (TCP_MD5SIG)"
told 21 "urgent data (MSG_OOB)"
told 22 "TCP connection that is only being made or unmade"
told 23 "TCP connection that has failed, and the program hasn't seen it yet"
[ "$(tail -n 1 "$message")" = "The program runs on." ] || fail "what became of it isn't told last"
[ "$(on_a ps -o stat= -p "$pid" | cut -c 1)" = S ] || fail "it doesn't run on"

# Connections that nobody accepts belong to no descriptor.
cat >"$SHARED/waiting.py" <<'PYTHON'
import signal, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
accepted = listener.accept()[0]
waiting = socket.create_connection(listener.getsockname())
open(sys.argv[1], "w").close()
while True:
    signal.pause()
PYTHON
pid=$(start_on a /dev/null python3 "$SHARED/waiting.py" "$SHARED/waits")
wait_for "$SHARED/waits"
! on_a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images" --tcp-established 2>"$message" ||
	fail "it was saved with a connection that waits"
grep -q "connections wait to be accepted, and the program doesn't accept them" "$message" ||
	fail "a connection that waits isn't named: $(cat "$message")"
[ "$(tail -n 1 "$message")" = "The program runs on." ] || fail "what became of it isn't told last"
