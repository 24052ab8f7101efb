# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# A real program as a service: it answers at an address of its own, which moves with it. $pid and $host say where it
# is (carry.sh). Sourced by the scripts of this folder, each of which is told how to carry: restore, or migrate N times.
tests=${tests:-$(dirname "$0")/..}
# shellcheck source=tests/lib/hosts.sh
. "$tests/lib/hosts.sh"
# shellcheck source=tests/lib/carry.sh
. "$tests/lib/carry.sh"

service=10.77.0.100
counter_report=$SHARED/counter.json

mkdir -p "$SHARED/images"

take_address() {
	host=a
	on a ip addr add "$service/24" dev eth0
	on a arping -q -U -c 1 -I eth0 "$service"
}

answers() { on_client /usr/bin/python3 -c "import socket; socket.create_connection(('$service', $1), 5)"; }

# write_nginx_conf LINE...: of one process, or of a master with $nginx_workers, that serves $SHARED/nginx at port 80; the lines
# belong to its http block.
write_nginx_conf() {
	mkdir -p "$SHARED/nginx"
	cat >"$SHARED/nginx.conf" <<CONF
daemon off;
master_process $([ "${nginx_workers:-0}" -gt 0 ] && echo on || echo off);
worker_processes ${nginx_workers:-1};
user root;
pid $SHARED/nginx.pid;
error_log $SHARED/nginx.log info;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path $SHARED/nginx-body;
	proxy_temp_path $SHARED/nginx-proxy;
	fastcgi_temp_path $SHARED/nginx-fastcgi;
	uwsgi_temp_path $SHARED/nginx-uwsgi;
	scgi_temp_path $SHARED/nginx-scgi;
	server { listen $service:80; root $SHARED/nginx; }
$(printf '\t%s\n' "$@")
}
CONF
}

# carry_service restore|migrate [TIMES]: TIMES is there and back each
carry_service() {
	case $1 in
	restore)
		save one
		wait_gone "$host" "$pid"
		bring_back one
		;;
	migrate)
		trip=0
		while [ $((trip += 1)) -le "${2:-1}" ]; do
			move b --move-address "$service/24"
			move a --move-address "$service/24"
		done
		;;
	*) fail "carry how? '$1'" ;;
	esac
}

# The counting client of redis; its connections stay open over everything until stop_counter. Its first report says
# that it listens to signals.
start_counter() {
	counter=$(start_on client "$SHARED/counter.log" "$TOOLS/counter_client" -h "$service" -r "$counter_report" "$@")
	wait_for "$counter_report"
}

# More so many replies from now on
count_on() {
	rm -f "$counter_report"
	on_client kill -USR1 "$counter"
	wait_for "$counter_report"
	wait_until enough_replies "$1"
}

enough_replies() {
	rm -f "$counter_report"
	on_client kill -USR1 "$counter"
	wait_for "$counter_report"
	replies=$((${replies:-0} + $(sed 's/.*"count": \([0-9]*\).*/\1/' "$counter_report")))
	[ "$replies" -ge "$1" ] && replies=0
}

stop_counter() {
	rm -f "$counter_report"
	on_client kill -TERM "$counter"
	wait_for "$counter_report"
	cat "$counter_report"
	grep -q '"errors": 0, "lost": 0, "doubled": 0' "$counter_report" || fail "clients saw errors, see above"
}
