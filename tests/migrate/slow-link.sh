#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run slow-link.sh: a program that writes memory faster than the link takes it. It never stands still for longer
# than --max-freeze, isn't stopped where that is known to be in vain, and goes over where it may stand still for longer.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
slow_ssh="/usr/bin/python3 -S $(realpath "$(dirname "$0")")/slow_ssh.py $HOSTS $SHARED/sent"

cat >"$SHARED/writer.py" <<'END'
memory = bytearray(4 << 20)
with open("/run/shared/ready", "w"):
    pass
while True:
    for i in range(0, len(memory), 4096):
        memory[i] = (memory[i] + 1) & 255
END

try() { on_a "$GODWIT" migrate "$pid" b --ssh "$slow_ssh" --remote-path "$GODWIT" "$@" >"$SHARED/migrate.log" 2>&1; }

# refused NEEDLE...: the last migration failed with each of them in its message
refused() {
	for needle in "$@"; do
		grep -qF -- "$needle" "$SHARED/migrate.log" || fail "no '$needle' in what godwit said"
	done
	on_a grep -q '^State:.[RS]' "/proc/$pid/status" || fail "the program doesn't run on"
}

pid=$(start_on a "$SHARED/writer.log" /usr/bin/python3 -S "$SHARED/writer.py")
wait_for "$SHARED/ready"

! try --max-rounds 0 --max-freeze 100 || fail "migrated, though it takes longer than --max-freeze"
refused "it has stood still for 100 ms, for as long as it may" "--max-freeze MS" "The program runs on here."
# As much as such a link takes in that time, about. The program has more.
[ "$(cat "$SHARED/sent")" -lt 3000000 ] || fail "it went on after --max-freeze"

! try --max-rounds 2 --max-freeze 100 || fail "migrated, though it takes longer than --max-freeze"
refused "it writes memory faster than that can be sent: after 2 rounds" "and may for 0.1 s" "The program runs on here."

try --max-rounds 2 --max-freeze 60000 || fail "not migrated"
on_b grep -q '^State:.[RS]' "/proc/$pid/status" || fail "the program doesn't run over there"
