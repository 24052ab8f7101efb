#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run script.sh restore: script(1) with a shell in it, whose keys come from a named pipe that script alone has. A
# command has been typed in part, another one runs; both go on, in the same terminal.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

folder=$SHARED/script
mkdir "$folder"
mkfifo "$folder/keys"
typed() { printf '%s' "$1" >"$folder/keys"; }
printed() { tr -d '\r' <"$folder/typescript" | grep -q -e "$1"; }

host=a
cat >"$folder/start" <<'START'
exec script -q -f -E never -c "env TERM=dumb PS1='shell> ' bash --norc --noprofile -i" "$1/typescript" <>"$1/keys"
START
pid=$(start_on a "$SHARED/script.log" sh "$folder/start" "$folder")
wait_until printed 'shell>'
typed 'number=4711; tty
'
wait_until printed '/dev/pts/'
terminal=$(tr -d '\r' <"$folder/typescript" | sed -n 's,.*\(/dev/pts/[0-9]*\).*,\1,p')
typed 'echo waiting; read -r line; echo "heard $line"
'
wait_until printed 'waiting'
typed 'first '

carry_service "$@"

typed 'half
echo $((number + 1)) $(tty)
'
wait_until printed 'heard first half$'
wait_until printed "4712 $terminal\$"
typed 'exit 23
'
wait_gone "$host" "$pid"
