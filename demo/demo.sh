#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# demo.sh [BUILD]: moves a redis with 200 MB between two hosts while a client counts in it: there over TLS, and back
# over ssh. The hosts are namespaces of this machine and go with the script. Fails if a reply is lost, doubled or an
# error, or if the program isn't where it should be.
set -eu
demo=$(cd "$(dirname "$0")" && pwd)
tests=$demo/../tests
megabytes=200
port=7777 # of godwit receive

# First outside: the build's programs, and then this script again beside the hosts.
if [ -z "${HOSTS:-}" ]; then
	build=$(cd "${1:-build}" && pwd)
	[ "$(id -u)" -eq 0 ] || {
		echo "demo.sh: the hosts are made of namespaces, which takes root: sudo make demo" >&2
		exit 1
	}
	export GODWIT="$build/godwit" TOOLS="$build/tests"
	exec "$build/tests/hosts" run "$demo/demo.sh"
fi
# shellcheck source=tests/real/lib.sh
. "$tests/real/lib.sh"
# shellcheck source=tests/lib/sshd.sh
. "$tests/lib/sshd.sh"

say() { printf '%s\n' "$*"; }

# show HOST COMMAND...: as if it had been typed there
show() {
	where=$1
	shift
	say
	say "$where# $(printf '%s' "$*" | sed "s|$GODWIT|godwit|g; s|$SHARED/||g")"
	"$HOSTS" on "$where" "$@"
}

number() { sed "s/.*\"$1\": \([0-9]*\).*/\1/" "$counter_report"; }

# The counters since the last report, in words. It begins a new one.
new_report() {
	rm -f "$counter_report"
	on_client kill -USR1 "$counter"
	wait_for "$counter_report"
}

say_report() {
	say "client: $(number count) replies, the slowest after $(($(number slowest_us) / 1000)) ms;" \
		"lost: $(number lost), doubled: $(number doubled), errors: $(number errors)"
	grep -q '"errors": 0, "lost": 0, "doubled": 0' "$counter_report" || fail "the client saw that redis had moved"
}

# is_on HOST OTHER
is_on() {
	[ "$("$HOSTS" on "$1" ps -o comm= -p "$pid")" = redis-server ] || fail "redis is not on $1"
	wait_gone "$2" "$pid"
}

take_address
mkdir "$SHARED/redis"
pid=$(start_on a "$SHARED/redis.log" redis-server --bind "$service" --port 6379 --protected-mode no \
	--enable-debug-command yes --save '' --dir "$SHARED/redis")
wait_until answers 6379
[ "$(on_client redis-cli -h "$service" debug populate $((megabytes * 1000)) key 900)" = OK ] || fail "populate"
say "Hosts a (10.77.0.1) and b (10.77.0.2), and a client, made of namespaces."
say "a: redis, PID $pid, $(on_client redis-cli -h "$service" info memory | sed -n 's/used_memory_human://p' | tr -d '\r') \
of data, serves at $service"
start_counter -c 4
count_on 1000
new_report
say "client: 4 connections to $service, each increments a counter every millisecond"

# There, over TLS 1.3 with a key that both hosts have.
(umask 077 && openssl rand -hex 32 >"$SHARED/key")
say
say "b# godwit receive --listen 10.77.0.2:$port --key key --once &"
start_on b "$SHARED/receive.log" "$GODWIT" receive --listen "10.77.0.2:$port" --key "$SHARED/key" --once >/dev/null
wait_until on_b sh -c "ss -Hltn 'sport = :$port' | grep -q LISTEN"
show a "$GODWIT" migrate "$pid" "tls://10.77.0.2:$port" --key "$SHARED/key" --move-address "$service/24"
is_on b a
new_report
say_report

# And back over ssh, which starts the other side by itself.
start_sshd a 10.77.0.1
show b "$GODWIT" migrate "$pid" 10.77.0.1 --ssh "ssh -F $ssh_config" --remote-path "$GODWIT" \
	--move-address "$service/24"
is_on a b
new_report
say_report

count_on 1000
stop_counter >/dev/null
[ "$(on_client redis-cli -h "$service" get key:$((megabytes * 1000 - 1)) | tr -d '\0')" = \
	"value:$((megabytes * 1000 - 1))" ] || fail "a key is not what it was"
say
say "There and back, with no reply lost, doubled or refused."
