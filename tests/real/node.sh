#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run node.sh restore|migrate [TIMES]: node's http server, compiled code and all, with wrk's connections open.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

take_address
pid=$(start_on a "$SHARED/node.log" node "$(realpath "$tests")/real/server.js" "$service")
wait_until answers 8080

load() { on_client wrk -t 1 -c 8 -d "$1" --timeout 30 "http://$service:8080/" >"$SHARED/wrk.log" 2>&1; }
load $((3 + 2 * ${2:-1})) &
loading=$!
sleep 1
carry_service "$@"
wait "$loading" || fail "wrk failed"
cat "$SHARED/wrk.log"
! grep -q -E 'Socket errors|Non-2xx' "$SHARED/wrk.log" || fail "wrk saw errors"
verdict=$(on_client curl -sS "http://$service:8080/verify")
echo "$verdict"
case $verdict in pass*) ;; *) fail "node's own check" ;; esac
