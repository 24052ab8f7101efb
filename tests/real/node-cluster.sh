#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run node-cluster.sh restore|migrate [TIMES]: node's cluster with three workers, with wrk's connections open.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

take_address
mkdir "$SHARED/cluster"
pid=$(start_on a "$SHARED/node.log" node "$(realpath "$tests")/real/cluster.js" "$service" "$SHARED/cluster")
wait_until answers 8080

load() { on_client wrk -t 1 -c 8 -d "$1" --timeout 30 "http://$service:8080/" >"$SHARED/wrk.log" 2>&1; }
load $((5 + 3 * ${2:-1})) &
loading=$!
sleep 1
carry_service "$@"
wait "$loading" || fail "wrk failed"
cat "$SHARED/wrk.log"
! grep -q -E 'Socket errors|Non-2xx' "$SHARED/wrk.log" || fail "wrk saw errors"
touch "$SHARED/cluster/stop"
wait_for "$SHARED/cluster/verdict"
[ "$(cat "$SHARED/cluster/verdict")" = pass ] || fail "$(cat "$SHARED/cluster/verdict")"
wait_gone "$host" "$pid"
