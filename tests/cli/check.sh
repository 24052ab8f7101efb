#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run check.sh: godwit check says what works here, by trying it: a privilege that is taken away shows.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

out=$SHARED/out

# status_of COMMAND...: its output is in $out
status_of() {
	status=0
	on_a "$@" >"$out" 2>&1 || status=$?
	echo $status
}

without() { # CAPABILITY COMMAND...
	capability=$1
	shift
	status_of setpriv --bounding-set "-$capability" --inh-caps "-$capability" "$@"
}

expect() {
	[ "$1" = "$2" ] || {
		cat "$out"
		fail "status $1 instead of $2"
	}
}

expect "$(status_of "$GODWIT" check)" 0
[ "$(grep -c '^ok' "$out")" -ge 10 ] || fail "few features: $(cat "$out")"
! grep '^no' "$out" || fail "something doesn't work here"
[ -z "$(on_a find /tmp -name 'godwit-check-*' -newer "$SHARED" -print -quit)" ] || fail "the images are left"

# Names of CRIU's, as scripts ask for them.
for name in mem_dirty_track clone3_set_tid timens network_lock_nftables seccomp_filters; do
	expect "$(status_of "$GODWIT" check --feature $name)" 0
done
expect "$(status_of "$GODWIT" check --feature nonsense)" 2
grep -q 'there is no feature "nonsense"' "$out" || fail "the wrong name isn't said: $(cat "$out")"

# Without a privilege, what needs it is missing, and nothing else.
expect "$(without net_admin "$GODWIT" check --feature tcp_repair)" 1
grep -q "without it: programs with TCP connections can't be carried" "$out" || fail "no advice: $(cat "$out")"
grep -q 'TCP_REPAIR.*Operation not permitted' "$out" || fail "no reason: $(cat "$out")"
expect "$(without net_admin "$GODWIT" check --feature network_lock)" 1
expect "$(without net_admin "$GODWIT" check --feature freeze)" 0
expect "$(without sys_admin,-checkpoint_restore "$GODWIT" check --feature freeze)" 1
expect "$(without sys_admin,-checkpoint_restore "$GODWIT" check --feature set_tid)" 1
expect "$(without sys_admin,-checkpoint_restore "$GODWIT" check)" 1
expect "$(status_of setpriv --reuid 65534 --clear-groups "$GODWIT" check)" 1
grep -q 'hint:  most of this takes root' "$out" || fail "no hint: $(cat "$out")"

on_a "$GODWIT" check --json >"$out"
python3 - "$out" <<-'PYTHON' || fail "not the JSON that is expected: $(cat "$out")"
	import json, sys
	told = json.load(open(sys.argv[1]))
	assert told["command"] == "check" and told["error"] is None, told
	assert told["features"]["freeze"] == {"works": True, "needed": True, "error": None,
	    "purpose": "stopping a program and making calls in it", "without": "nothing can be carried"}
PYTHON
