#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run nginx.sh restore|migrate [TIMES [WORKERS]]: nginx in one process, or a master with its workers, with wrk's
# connections open.
set -eu
nginx_workers=${3:-0}
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

take_address
mkdir "$SHARED/nginx"
head -c 20000 /dev/zero | tr '\0' x >"$SHARED/nginx/index.html"
write_nginx_conf 'keepalive_requests 1000000;'
pid=$(start_on a "$SHARED/nginx.log" nginx -c "$SHARED/nginx.conf")
wait_until answers 80

load() { on_client wrk -t 1 -c 8 -d "$1" --timeout 30 "http://$service/" >"$SHARED/wrk.log" 2>&1; }
load $((3 + 2 * ${2:-1} + nginx_workers / 2)) &
loading=$!
sleep 1
carry_service "$@"
wait "$loading" || fail "wrk failed"
cat "$SHARED/wrk.log"
! grep -q -E 'Socket errors|Non-2xx' "$SHARED/wrk.log" || fail "wrk saw errors"
load 1
! grep -q -E 'Socket errors|Non-2xx' "$SHARED/wrk.log" || fail "wrk saw errors on new connections"
[ "$(on "$host" pgrep -c -P "$pid" || true)" = "$nginx_workers" ] || fail "it has not its $nginx_workers workers"
