#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run python.sh restore|migrate [TIMES]: threads and an asyncio server in one python3, every echoed byte checked.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

take_address
pid=$(start_on a "$SHARED/python.log" /usr/bin/python3 "$(realpath "$tests")/real/server.py" "$service")
wait_until answers 7001

on_client "$TOOLS/stream" check "$service" 7000 -c 8 -b 2000000 -s $((3 + 2 * ${2:-1})) >"$SHARED/stream.log" 2>&1 &
checking=$!
sleep 1
carry_service "$@"
wait "$checking" || fail "the echo is not what was sent: $(cat "$SHARED/stream.log")"
cat "$SHARED/stream.log"
verdict=$(on_client /usr/bin/python3 -c "
import socket
s = socket.create_connection(('$service', 7001), 30)
print(s.makefile().readline(), end='')")
echo "$verdict"
case $verdict in pass*) ;; *) fail "python's own check" ;; esac
