#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run redis-states.sh restore|migrate [TIMES]: redis with all that it may have: a log of what is written (AOF) and
# snapshots on a file system that both hosts see, a password, a replica that follows it, and clients that are subscribed,
# blocked or in the middle of a transaction.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

redis() { on_client redis-cli -h "$service" --no-auth-warning -a geheim "$@"; }
follows() { on_client redis-cli -p 6380 --no-auth-warning -a geheim info replication | grep -q '^master_link_status:up'; }

take_address
mkdir "$SHARED/master" "$SHARED/replica"
pid=$(start_on a "$SHARED/redis.log" redis-server --bind "$service" --port 6379 --requirepass geheim --dir "$SHARED/master" \
	--appendonly yes --save '3600 1' --repl-diskless-sync-delay 0)
wait_until answers 6379
start_on client "$SHARED/replica.log" redis-server --bind 127.0.0.1 --port 6380 --requirepass geheim --masterauth geheim \
	--replicaof "$service" 6379 --dir "$SHARED/replica" >/dev/null
wait_until follows

on_client /usr/bin/python3 "$(realpath "$tests")/real/redis_clients.py" "$service" "$SHARED/ready" "$SHARED/end" \
	>"$SHARED/clients.log" 2>&1 &
clients=$!
wait_for "$SHARED/ready"
carry_service "$@"
touch "$SHARED/end"
wait "$clients" || fail "a client got a wrong answer: $(cat "$SHARED/clients.log")"
cat "$SHARED/clients.log"
synced=$(redis info stats | tr -d '\r' | sed -n 's/^sync_full://p')
[ "$synced" = 1 ] || fail "the replica has lost its connection: $synced full copies"

# What is on disk is what it had.
scripts=$(redis get scripts)
redis shutdown save
wait_gone "$host" "$pid"
redis-check-aof "$SHARED/master/appendonlydir/appendonly.aof.manifest" | grep -q "All AOF files and manifest are valid" ||
	fail "the AOF is damaged"
redis-check-rdb "$SHARED/master/dump.rdb" >/dev/null || fail "the snapshot is damaged"
pid=$(start_on "$host" "$SHARED/again.log" redis-server --bind "$service" --port 6379 --requirepass geheim \
	--dir "$SHARED/master" --appendonly yes)
wait_until answers 6379
[ "$(redis get scripts)" = "$scripts" ] || fail "something that was written is missing in the AOF"
