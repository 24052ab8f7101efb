#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run bgsave.sh: redis writes a snapshot in the background (BGSAVE) in the moment in which it is to be moved, and
# again while it is being moved. Both snapshots are written, and no client notices.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

redis() { on_client redis-cli -h "$service" "$@"; }

has_saved() {
	redis info persistence | tr -d '\r' >"$SHARED/persistence"
	grep -qx "rdb_bgsave_in_progress:0" "$SHARED/persistence" && grep -qx "rdb_last_bgsave_status:ok" "$SHARED/persistence" &&
		grep -qx "rdb_saves:$1" "$SHARED/persistence"
}

take_address
mkdir "$SHARED/redis"
pid=$(start_on a "$SHARED/redis.log" redis-server --bind "$service" --port 6379 --protected-mode no \
	--enable-debug-command yes --save '' --dir "$SHARED/redis" --rdb-key-save-delay 2000)
wait_until answers 6379
[ "$(redis debug populate 1000 key 200)" = OK ] || fail "populate"
start_counter -c 10
count_on 1000

cat >"$SHARED/save" <<SCRIPT
#!/bin/sh
[ "\$CRTOOLS_SCRIPT_ACTION" != pre-dump ] || redis-cli -h $service bgsave
SCRIPT
chmod +x "$SHARED/save"
before=$(redis info persistence | tr -d '\r' | sed -n 's/^rdb_saves://p')
redis bgsave
GODWIT_OPTIONS="--wait-children 600 --action-script $SHARED/save"
move b --move-address "$service/24"
wait_until has_saved $((before + 2))
count_on 1000
stop_counter
[ "$(redis get key:999 | tr -d '\0')" = value:999 ] || fail "a key is not what it was"
