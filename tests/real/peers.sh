#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run peers.sh restore|migrate [TIMES]: what a peer that stays where it is has said already, and will not say again: that
# its half of a connection ends, and datagrams that wait to be read.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

cat >"$SHARED/peers.py" <<'PYTHON'
import hashlib, os, socket, sys, time

side, address, folder = sys.argv[1:]
WORDS = bytes(i * 11 % 251 for i in range(50000))

def tell(name):
    open(f"{folder}/{name}", "w").close()

def wait_for(name):
    while not os.path.exists(f"{folder}/{name}"):
        time.sleep(0.01)

def read_all(connection, first=b""):
    data = first
    while more := connection.recv(65536):
        data += more
    return data

def expect(what, seen, wanted):
    if seen != wanted:
        sys.exit(f"{side}: {what}: {len(seen)} bytes {seen[:20]!r}, not {len(wanted)}")

def wait_until_heard(*ended):
    FIN_WAIT2 = 5
    while any(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != FIN_WAIT2 for one in ended):
        time.sleep(0.001)

if side == "server":
    listener = socket.create_server((address, 7010))
    bound = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    bound[0].bind((address, 7011))
    bound[1].bind(("", 7012))
    tell("listens")
    unread, known, closed = (listener.accept()[0] for _ in range(3))
    expect("what ends", read_all(known), b"known")
    closed.sendall(b"last words")
    closed.shutdown(socket.SHUT_WR)
    wait_for("go")
    for connection in (unread, known, closed, *bound):
        connection.settimeout(20)
    for datagrams in bound:
        for text in (b"one", b"two"):
            data, sender = datagrams.recvfrom(100)
            expect("datagram", data, text)
            datagrams.sendto(data.upper(), sender)
    expect("the end that has been seen", known.recv(1), b"")
    known.sendall(WORDS)
    known.close()
    unread.sendall(hashlib.sha256(read_all(unread)).hexdigest().encode())
    unread.close()
    expect("behind its own end", read_all(closed), WORDS)
    tell("server-passes")
else:
    unread, known, closed = (socket.create_connection((address, 7010), 30) for _ in range(3))
    unread.sendall(WORDS)
    unread.shutdown(socket.SHUT_WR)
    known.sendall(b"known")
    known.shutdown(socket.SHUT_WR)
    expect("last words", read_all(closed), b"last words")
    datagrams = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for number, one in enumerate(datagrams):
        one.settimeout(30)
        one.sendto(b"one", (address, 7011 + number))
        one.sendto(b"two", (address, 7011 + number))
    wait_until_heard(unread, known)
    tell("ready")
    wait_for("go")
    for one in datagrams:
        expect("answer to a datagram", one.recv(100) + one.recv(100), b"ONETWO")
    expect("from one that has seen the end", read_all(known), WORDS)
    expect("from one that had not", read_all(unread), hashlib.sha256(WORDS).hexdigest().encode())
    closed.sendall(WORDS)
    closed.close()
    wait_for("server-passes")
PYTHON

take_address
pid=$(start_on a "$SHARED/server.log" /usr/bin/python3 -S "$SHARED/peers.py" server "$service" "$SHARED")
wait_for "$SHARED/listens"
on_client /usr/bin/python3 -S "$SHARED/peers.py" client "$service" "$SHARED" >"$SHARED/client.log" 2>&1 &
client=$!
wait_for "$SHARED/ready"
carry_service "$@"
touch "$SHARED/go"
wait "$client" || fail "$(cat "$SHARED/client.log" "$SHARED/server.log")"
wait_gone "$host" "$pid"
[ ! -s "$SHARED/server.log" ] || fail "$(cat "$SHARED/server.log")"
