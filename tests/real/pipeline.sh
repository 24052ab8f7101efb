#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run pipeline.sh restore|migrate [TIMES]: bash with a pipeline in the foreground, whose first process ends early, and
# jobs in the background in process groups of their own, one of them stopped; then it waits for each and sees how it ended.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

folder=$SHARED/pipeline
mkdir "$folder"
cat >"$folder/script" <<'SCRIPT'
set -m
cd "$1"
sleep 1000 &
stopped=$!
kill -STOP $stopped
(while [ ! -e stop ]; do sleep 0.05; done; exit 23) &
waiter=$!
echo early | (cat; n=0; while [ ! -e stop ]; do echo $((n += 1)); sleep 0.01; done) | while read -r line; do
	[ "$line" = early ] || [ "$line" = $((last + 1)) ] || echo "lost: $line after $last" >>wrong
	last=$line
	[ "$line" = early ] && last=0
	echo "$line" >line.new
	mv line.new line
done
wait $waiter
echo "waiter $?" >>ends
jobs -l | sed 's/^[^ ]* *[0-9]* //' >>ends
kill -CONT $stopped
sleep 0.5
jobs >/dev/null
kill -TERM $stopped
wait $stopped
echo "stopped $?" >>ends
mv ends verdict
SCRIPT
take_address
pid=$(start_on a "$SHARED/bash.log" bash "$folder/script" "$folder")
has_lines() { [ "$(cat "$folder/line" 2>/dev/null || echo 0)" -ge "$1" ]; }
wait_until grep -q '^[0-9]' "$folder/line"
wait_until has_lines 20
carry_service "$@"
now=$(cat "$folder/line")
wait_until has_lines $((now + 20))
touch "$folder/stop"
wait_for "$folder/verdict"
wait_gone "$host" "$pid"
[ ! -e "$folder/wrong" ] || fail "$(cat "$folder/wrong")"
expected="waiter 23
Stopped (signal)        sleep 1000
stopped 143"
[ "$(cat "$folder/verdict")" = "$expected" ] || fail "it saw: $(cat "$folder/verdict")"
