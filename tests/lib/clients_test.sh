#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 clients_test.sh: the programs that judge godwit see what they are there to see.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/hosts.sh"
report=$SHARED/report

# The counting client: a doubled, a lost increment, a closed connection.
start_on a "$SHARED/redis.log" redis-server --bind 127.0.0.1 --port 6379 --save '' >/dev/null
cli() { on_a redis-cli "$@"; }
wait_until cli ping
count() { # EXPECTED COMMAND...: runs the command while the client counts
	expected=$1
	shift
	rm -f "$report"
	client=$(start_on a "$SHARED/client.log" "$TOOLS/counter_client" -c 3 -r "$report")
	wait_for "$report"
	rm "$report"
	counts() { [ "$(cli get "counter:$client:1")" -gt 10 ]; }
	wait_until counts
	"$@" >/dev/null
	sleep 0.1
	on_a kill "$client" 2>/dev/null || :
	wait_for "$report"
	grep -q "$expected" "$report" || fail "$expected expected: $(cat "$report")"
}
count '"errors": 0, "lost": 0, "doubled": 0' true
incr() { cli incr "counter:$client:1"; }
decr() { cli decr "counter:$client:1"; }
count '"lost": 0, "doubled": 1' incr
count '"lost": 1, "doubled": 0' decr
count '"errors": [1-3]' cli client kill type normal

# The stream checker: an echo, and one that changes its 100,000th byte.
start_on a "$SHARED/stream.log" "$TOOLS/stream" serve 127.0.0.1 7000 "$SHARED" >/dev/null
wait_for "$SHARED/ready"
on_a "$TOOLS/stream" check 127.0.0.1 7000 -c 5 -s 1 >"$SHARED/streams" || fail "echo: $(cat "$SHARED/streams")"
start_on a "$SHARED/liar.log" /usr/bin/python3 -c '
import socketserver
class Liar(socketserver.BaseRequestHandler):
    def handle(self):
        total = 0
        while data := bytearray(self.request.recv(65536)):
            if total <= 100000 < total + len(data):
                data[100000 - total] ^= 1
            total += len(data)
            self.request.sendall(data)
socketserver.ThreadingTCPServer(("127.0.0.1", 7001), Liar).serve_forever()' >/dev/null
liar() { on_a "$TOOLS/stream" check 127.0.0.1 7001 -s 1 >"$SHARED/streams" 2>&1; }
lies() { ! liar && grep -q '"wrong_bytes": 1,' "$SHARED/streams"; }
wait_until lies

# The ticker: a pause, and a changed byte of its memory.
mkdir "$SHARED/ticker"
ticker=$(start_on a "$SHARED/ticker.log" "$TOOLS/ticker" -m 16 -d 4 -t 3 -a 10 -f 10 -c 3 -l 127.0.0.2 "$SHARED/ticker")
wait_for "$SHARED/ticker/ready"
on_a "$TOOLS/counter_client" -h 127.0.0.2 -c 5 -s 1 >"$SHARED/counted" || fail "counters: $(cat "$SHARED/counted")"
now_us() { date +%s%6N; }
start_us=$(now_us)
on_a kill -USR2 "$ticker"
wait_for "$SHARED/ticker/report-1"
grep -q '"corrupt_pages": 0' "$SHARED/ticker/report-1" || fail "ticker: $(cat "$SHARED/ticker/report-1")"
# Not before the last of its threads stands still.
on_a kill -STOP "$ticker"
stopped() { on_a sh -c 'cat /proc/"$1"/task/*/status' sh "$ticker" >"$SHARED/threads" && ! grep '^State:' "$SHARED/threads" | grep -qv stopped; }
wait_until stopped
sleep 0.3
on_a kill -CONT "$ticker"
on_a /usr/bin/python3 - "$ticker" <<'PYTHON'
import sys
areas = [line.split()[0].split("-") for line in open(f"/proc/{sys.argv[1]}/maps") if " rw-p 00000000 00:00 0" in line]
start, end = max(((int(a, 16), int(b, 16)) for a, b in areas), key=lambda area: area[1] - area[0])
with open(f"/proc/{sys.argv[1]}/mem", "r+b", 0) as memory:
    memory.seek(end - 4096 * 100 + 8)
    memory.write(b"changed!")
PYTHON
on_a kill -USR2 "$ticker"
wait_for "$SHARED/ticker/report-2"
grep -q '"corrupt_pages": 1,' "$SHARED/ticker/report-2" || fail "ticker: $(cat "$SHARED/ticker/report-2")"
slowest_us=$(sed -n 's/.*"slowest_us": \([0-9]*\),.*/\1/p' "$SHARED/ticker/report-2")
passed_us=$(($(now_us) - start_us))
if [ "$slowest_us" -lt 300000 ] || [ "$slowest_us" -gt "$passed_us" ]; then
	fail "a pause of at least 300000 us in $passed_us us: $(cat "$SHARED/ticker/report-2")"
fi
