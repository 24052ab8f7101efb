#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run recipe.sh: the recipe that godwit began with, word for word, on redis with clients connected:
#
#     godwit dump --tree PID --images-dir DIR --leave-stopped
#     copy DIR to the other host
#     godwit restore --images-dir DIR
#     kill the stopped original; its connections close without telling the peers
#
# with --tcp-established for the connections, as with CRIU, and the address taken along by hand.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

take_address
# Everything that the program has written goes along in DIR or is the same on both hosts.
pid=$(start_on a /dev/null redis-server --bind "$service" --port 6379 --protected-mode no --save '' --dir /)
wait_until answers 6379
start_counter -c 10
count_on 500

# DIR is on a, where b doesn't see it.
on_a mkdir /run/images
on_b mkdir /run/images
on_a "$GODWIT" dump --tree "$pid" --images-dir /run/images --leave-stopped --tcp-established || fail "dump"
[ "$(on_a ps -o stat= -p "$pid" | cut -c 1)" = T ] || fail "the original is not stopped"
on_a "$GODWIT" resolve --list | grep -q "$pid" || fail "resolve --list does not name the stopped original"
rsync -a -e "$HOSTS ssh" a:/run/images/ /run/images-copy/
rsync -a -e "$HOSTS ssh" /run/images-copy/ b:/run/images/

on_a ip addr del "$service/24" dev eth0
on_b ip addr add "$service/24" dev eth0
on_b arping -q -U -c 1 -I eth0 "$service"

start_on b "$SHARED/restore.log" "$GODWIT" restore --images-dir /run/images --tcp-established >/dev/null
wait_until on_b test -e "/proc/$pid/exe"
count_on 500
on_a kill -KILL "$pid"
wait_gone a "$pid"
count_on 500
stop_counter
[ -z "$(on_a "$GODWIT" resolve --list)" ] || fail "the lock of the dead original is still there"
