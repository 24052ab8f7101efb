#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run multiprocessing.sh restore|migrate [TIMES]: python's multiprocessing: a pool, queues and shared values, all of them at work.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

folder=$SHARED/pool
mkdir "$folder"
take_address
pid=$(start_on a "$SHARED/pool.log" /usr/bin/python3 "$(dirname "$0")/multi_pool.py" "$folder")
has_rounds() { [ "$(cat "$folder/rounds" 2>/dev/null || echo 0)" -ge "$1" ]; }
wait_until has_rounds 3
carry_service "$@"
now=$(cat "$folder/rounds")
wait_until has_rounds $((now + 3))
touch "$folder/stop"
wait_for "$folder/verdict"
wait_gone "$host" "$pid"
[ "$(cat "$folder/verdict")" = pass ] || fail "$(cat "$folder/verdict")"
[ ! -s "$SHARED/pool.log" ] || fail "python complained"
