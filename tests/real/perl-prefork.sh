#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run perl-prefork.sh restore|migrate [TIMES]: a pre-fork server in perl: long connections whose every byte is checked, and
# short ones all the time.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

take_address
mkdir "$SHARED/prefork"
pid=$(start_on a "$SHARED/perl.log" perl "$(realpath "$tests")/real/prefork.pl" "$service" "$SHARED/prefork")
wait_until answers 7000
on_client "$TOOLS/stream" check "$service" 7000 -c 2 -b 2000000 -s $((4 + 3 * ${2:-1})) >"$SHARED/stream.log" 2>&1 &
checking=$!
cat >"$SHARED/short.py" <<'PYTHON'
import os, socket, sys, time
count = 0
while not os.path.exists(sys.argv[2]):
    with socket.create_connection((sys.argv[1], 7000), 30) as s:
        s.sendall(b"%d" % count)
        assert s.recv(100) == b"%d" % count
    count += 1
    time.sleep(0.1)  # or there is one that waits to be accepted in each freeze
print(count)
PYTHON
on_client /usr/bin/python3 "$SHARED/short.py" "$service" "$SHARED/stop" >"$SHARED/short.log" 2>&1 &
short=$!
sleep 1
carry_service "$@"
wait "$checking" || fail "the echo is not what was sent: $(cat "$SHARED/stream.log")"
touch "$SHARED/stop"
wait "$short" || fail "a short connection failed"
cat "$SHARED/stream.log" "$SHARED/short.log"
[ ! -s "$SHARED/perl.log" ] || fail "perl complained"
