#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run redis.sh restore|migrate [TIMES]: redis under load, with clients that count.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

take_address
mkdir "$SHARED/redis"
pid=$(start_on a "$SHARED/redis.log" redis-server --bind "$service" --port 6379 --protected-mode no \
	--enable-debug-command yes --save '' --dir "$SHARED/redis")
wait_until answers 6379
[ "$(on_client redis-cli -h "$service" debug populate 20000 key 200)" = OK ] || fail "populate"

start_counter -c 10
benchmark=$(start_on client "$SHARED/benchmark.log" redis-benchmark -h "$service" -c 4 -q -l -t set,get,lpush,lpop -d 100)
count_on 1000
carry_service "$@"
count_on 1000
on_client kill "$benchmark"
! grep -i error "$SHARED/benchmark.log" || fail "redis-benchmark saw an error"
stop_counter
[ "$(on_client redis-cli -h "$service" get key:19999 | tr -d '\0')" = value:19999 ] || fail "a key is not what it was"
