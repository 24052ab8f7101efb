#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run refusals.sh: what can't be carried is named for what it is, all of it at once, and the program isn't touched.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

message=$SHARED/message
mkdir "$SHARED/images"

# Each descriptor has a number of its own, so that none is taken for another.
cat >"$SHARED/program.py" <<'PYTHON'
import ctypes, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def keep(number, fd):
    if fd < 0:
        return
    os.dup2(fd, number)
    os.close(fd)
keep(20, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).detach())
packet = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0300)
packet.bind(("eth0", 0x0300))
keep(21, packet.detach())
keep(22, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12).detach())  # NETLINK_NETFILTER
unread = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
unread.send(b"\x10\0\0\0\x10\0\5\0" + 8 * b"\0")  # RTM_NEWLINK, with NLM_F_ACK: it is refused
keep(29, unread.detach())
half = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
half.setsockopt(17, 1, 1)  # UDP_CORK
half.sendto(b"half", ("127.0.0.1", 9))
keep(31, half.detach())
connected = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
connected.connect((4242, 0))
keep(30, connected.detach())
keep(23, libc.syscall(425, 8, (ctypes.c_char * 120)()))  # io_uring_setup
keep(24, libc.syscall(323, 0x1))  # userfaultfd, UFFD_USER_MODE_ONLY
keep(25, libc.syscall(434, os.getpid(), 0))  # pidfd_open
plain = socket.create_server(("127.0.0.1", 0))
multipath = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)  # IPPROTO_MPTCP
multipath.connect(plain.getsockname())
keep(26, multipath.detach())
other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
other.connect("\0somebody else")
keep(27, other.detach())
keep(28, libc.inotify_init1(0))
libc.inotify_add_watch(28, b"/", 0x20)  # IN_OPEN
os.close(os.open("/", os.O_RDONLY))
signal.signal(signal.SIGALRM, lambda *_: None)
open(sys.argv[1] + ".new", "w").write(" ".join(sorted(os.listdir("/proc/self/fd"))))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    signal.pause()
PYTHON
cat >"$SHARED/other.py" <<'PYTHON'
import os, signal, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind("\0somebody else")
listener.listen()
open(sys.argv[1], "w").close()
accepted = listener.accept()
signal.pause()
PYTHON
other=$(start_on a /dev/null python3 "$SHARED/other.py" "$SHARED/listens")
wait_for "$SHARED/listens"
pid=$(start_on a /dev/null python3 "$SHARED/program.py" "$SHARED/ready")
wait_for "$SHARED/ready"

! on_a "$GODWIT" dump --tree "$pid" --images-dir "$SHARED/images" 2>"$message" || fail "it was saved"
cat "$message"

# told FD WHAT: where this kernel let the program have it
told() {
	on_a test -e "/proc/$pid/fd/$1" || return 0
	grep -q "fd $1\( (socket:.*)\)\{0,1\}: $2" "$message" || fail "fd $1 isn't named: $2"
}
told 20 "a packet socket, on all interfaces"
told 21 "a packet socket, listening on eth0"
told 22 "a netlink socket of bus 12"
told 29 "NETLINK_ROUTE socket from which a message waits to be read"
told 31 "UDP socket with a datagram that is only half written (UDP_CORK)"
told 30 "NETLINK_ROUTE socket connected to port 4242, another process"
told 23 "a ring of io_uring"
told 24 "a userfaultfd of its own"
told 25 "a descriptor of a process (pidfd)"
told 26 "connection of multipath TCP from 127.0.0.1"
grep -q "fd 27 (socket:.*" "$message" || fail "the end of a UNIX socket isn't named"
grep -q "connected to process $other (python3)" "$message" ||
	fail "the other end of a UNIX socket isn't named"
grep -q "bytes of events wait" "$message" || fail "events that wait aren't named"
grep -q "^hint:  end the capture before the program is moved" "$message" || fail "no way out is told"
[ "$(tail -n 1 "$message")" = "The program runs on." ] || fail "what became of it isn't told last"
[ "$(on_a ps -o stat= -p "$pid" | cut -c 1)" = S ] || fail "it doesn't run on"
on_a grep -q '^TracerPid:.0$' "/proc/$pid/status" || fail "it is still held"
