#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run sqlite.sh restore|migrate [TIMES]: the sqlite3 shell in the middle of thousands of transactions on a
# database that both hosts see. Its file locks, offsets and buffers must all be right, or a row is missing, doubled
# or damaged.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

rows=8000
database=$SHARED/database
take_address
{
	echo '.timeout 60000'
	echo 'CREATE TABLE t(n INTEGER PRIMARY KEY, sum INTEGER, filling TEXT);'
	seq $rows | sed 's/.*/WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 3000) INSERT INTO t SELECT &, sum(x)*&, hex(randomblob(100)) FROM c;/'
} >"$SHARED/insert.sql"
pid=$(start_on a "$SHARED/sqlite.log" sqlite3 -bail "$database" ".read $SHARED/insert.sql")

row_count() { sqlite3 -cmd '.timeout 10000' "$database" 'SELECT count(*) FROM t' 2>/dev/null || echo 0; }
has_rows() { [ "$(row_count)" -ge "$1" ]; }
wait_until has_rows 50
carry_service "$@"
[ "$(row_count)" -lt $rows ] || fail "it was done before it was carried"
wait_until has_rows $rows
wait_gone "$host" "$pid"
[ ! -s "$SHARED/sqlite.log" ] || fail "sqlite3 complained"
verdict=$(sqlite3 "$database" 'PRAGMA integrity_check; SELECT count(*), sum(sum) = sum(n) * 3000*3001/2 FROM t;' | tr '\n' ' ')
[ "$verdict" = "ok $rows|1 " ] || fail "the database: $verdict"
echo "$verdict"
