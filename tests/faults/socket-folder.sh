#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 socket-folder.sh: a restore that is killed leaves no folder beside the path of a UNIX socket, and where the
# program lives on by then, its socket is at that path.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

images=$SHARED/images
place=$SHARED/place
mkdir "$images" "$place"

cat >"$SHARED/server.py" <<'END'
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1] + "/socket")
listener.listen()
open(sys.argv[1] + "/../ready", "w").close()
while True:
    client = listener.accept()[0]
    client.send(b"%d" % os.getpid())
    client.close()
END
cat >"$SHARED/client.py" <<'END'
import socket, sys
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
client.connect(sys.argv[1] + "/socket")
print(client.recv(100).decode())
END

is_alone() { [ "$(ls -A "$place")" = socket ]; }

answers() { [ "$(on_a /usr/bin/python3 "$SHARED/client.py" "$place" 2>/dev/null)" = "$pid" ]; }

# killed_at PHASE
killed_at() {
	status=0
	GODWIT_TEST_STOP_AT=$1 on_a "$GODWIT" restore --images-dir "$images" --restore-detached >"$SHARED/log" 2>&1 || status=$?
	[ "$status" -ge 128 ] || fail "at $1 it ended with status $status: $(cat "$SHARED/log")"
	wait_until is_alone
}

pid=$(start_on a /dev/null /usr/bin/python3 -S "$SHARED/server.py" "$place")
wait_for "$SHARED/ready"
answers || fail "it doesn't answer to begin with"
on_a "$GODWIT" dump --tree "$pid" --images-dir "$images" >"$SHARED/log" 2>&1 || fail "dump: $(cat "$SHARED/log")"
wait_gone a "$pid"

killed_at restored
wait_gone a "$pid"
! answers || fail "somebody answers, though the program is gone"
echo "ok killed before the program lives, it leaves nothing"

killed_at outlives
wait_until answers
echo "ok killed when the program lives, its socket is in its place"
