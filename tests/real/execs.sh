#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run execs.sh restore|migrate [TIMES]: a child that executes a program in its own place again and again, so that each
# look at it finds another one under the same PID, beside one that does so now and then and has a child.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

folder=$SHARED/execs
mkdir "$folder"
cat >"$folder/often" <<'SCRIPT'
#!/bin/sh
[ ! -e stop ] || exit 5
echo $(($1 + 1)) >often.new
mv often.new often.count
exec ./often $(($1 + 1))
SCRIPT
cat >"$folder/sometimes" <<'SCRIPT'
#!/bin/sh
[ ! -e stop ] || exit 6
sleep 0.05
exec ./sometimes
SCRIPT
cat >"$folder/root" <<'SCRIPT'
#!/bin/sh
cd "$1" || exit 1
./often 0 &
often=$!
./sometimes &
sometimes=$!
wait $often
echo $? >ends
wait $sometimes
echo $? >>ends
mv ends verdict
SCRIPT
chmod +x "$folder/often" "$folder/sometimes" "$folder/root"
take_address
pid=$(start_on a "$SHARED/execs.log" "$folder/root" "$folder")
has_count() { [ "$(cat "$folder/often.count" 2>/dev/null || echo 0)" -ge "$1" ]; }
wait_until has_count 20
carry_service "$@"
now=$(cat "$folder/often.count")
wait_until has_count $((now + 20))
touch "$folder/stop"
wait_for "$folder/verdict"
wait_gone "$host" "$pid"
[ "$(tr '\n' ' ' <"$folder/verdict")" = "5 6 " ] || fail "the children ended with $(tr '\n' ' ' <"$folder/verdict")"
[ ! -s "$SHARED/execs.log" ] || fail "a shell complained"
