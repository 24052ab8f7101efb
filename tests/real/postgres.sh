#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run postgres.sh restore|migrate [TIMES]: PostgreSQL with a back end for each of 20 clients, under pgbench: no transaction
# fails, and the sums of all balances agree at the end.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

bin=$(echo /usr/lib/postgresql/*/bin)
data=$SHARED/postgres
as_postgres() { on_a setpriv --reuid postgres --regid postgres --init-groups "$@"; }
sql() { on_client "$bin/psql" -h "$service" -U postgres -AtXq -c "$1"; }
is_ready() { on_client "$bin/pg_isready" -q -h "$service" -U postgres; }

take_address
install -d -o postgres -g postgres -m 700 "$data"
as_postgres "$bin/initdb" -D "$data" -A trust -N >"$SHARED/initdb.log" 2>&1 || fail "initdb"
echo "host all all $service/24 trust" >>"$data/pg_hba.conf"
cat >>"$data/postgresql.conf" <<CONF
listen_addresses = '$service'
unix_socket_directories = ''
max_connections = 50
shared_buffers = ${SHARED_BUFFERS:-64MB}
dynamic_shared_memory_type = sysv
fsync = off
CONF
pid=$(start_on a "$SHARED/postgres.log" setpriv --reuid postgres --regid postgres --init-groups \
	"$bin/postgres" -D "$data")
wait_until is_ready
on_client "$bin/pgbench" -h "$service" -U postgres -i -q -s 2 postgres >"$SHARED/init.log" 2>&1 || fail "pgbench -i"
on_client "$bin/pgbench" -h "$service" -U postgres -c 20 -j 2 -T $((4 + 4 * ${2:-1})) postgres >"$SHARED/pgbench.log" 2>&1 &
load=$!
is_loaded() { [ "$(sql 'SELECT count(*) FROM pgbench_history')" -gt 100 ]; }
wait_until is_loaded
carry_service "$@"
wait "$load" || fail "pgbench failed"
cat "$SHARED/pgbench.log"
grep -q 'number of failed transactions: 0 ' "$SHARED/pgbench.log" || fail "transactions failed"
sums=$(sql 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = s AND (SELECT sum(tbalance) FROM pgbench_tellers) = s
	AND (SELECT sum(bbalance) FROM pgbench_branches) = s FROM (SELECT sum(delta) AS s FROM pgbench_history) AS history')
[ "$sums" = t ] || fail "balances don't agree"
# It goes on to work: new back ends, and its helpers.
sql 'VACUUM ANALYZE pgbench_accounts' || fail "vacuum"
[ "$(sql 'SELECT count(*) FROM pgbench_branches')" = 2 ] || fail "a new connection"
! grep -E 'PANIC|FATAL|crash' "$SHARED/postgres.log" | grep -v 'starting up' || fail "postgres complained"
on "$host" kill -INT "$pid"
wait_gone "$host" "$pid"
