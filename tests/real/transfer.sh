#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run transfer.sh restore|migrate [TIMES]: downloads in the middle, of which each byte has to be right. First the
# server is carried (nginx: a file by sendfile(2), and through TLS), then the client (curl: a connection that went out, from
# a port that nobody chose).
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

file=$SHARED/nginx/file

take_address
mkdir "$SHARED/nginx"
head -c 20000000 /dev/urandom >"$file"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$service" -days 2 \
	-addext "subjectAltName=IP:$service" -keyout "$SHARED/key.pem" -out "$SHARED/cert.pem" 2>/dev/null

write_nginx_conf 'sendfile on;' "server {
		listen $service:443 ssl;
		ssl_certificate $SHARED/cert.pem;
		ssl_certificate_key $SHARED/key.pem;
		root $SHARED/nginx;
	}"

# receive NAME URL [OPTION]...: takes a little, and the rest when $SHARED/go is there; until then all buffers are full.
receive() {
	name=$1
	shift
	# shellcheck disable=SC2016 # for the other shell
	on_client sh -c 'out=$1 go=$2
		shift 2
		{ curl -sS "$@" || echo curl failed; } | { head -c 100000; until [ -e "$go" ]; do sleep 0.01; done; cat; } >"$out"' \
		sh "$SHARED/$name" "$SHARED/go" "$@"
}

has_begun() { [ "$(stat -c %s "$1")" -ge 100000 ]; }

check_copy() { cmp "$file" "$1" || fail "what was received isn't what was sent"; }

echo "--- the server"
pid=$(start_on a "$SHARED/nginx.log" nginx -c "$SHARED/nginx.conf")
wait_until answers 443
receive plain "http://$service/file" &
plain=$!
receive secret --cacert "$SHARED/cert.pem" "https://$service/file" &
secret=$!
wait_until has_begun "$SHARED/plain"
wait_until has_begun "$SHARED/secret"
carry_service "$@"
touch "$SHARED/go"
wait "$plain" "$secret"
check_copy "$SHARED/plain"
check_copy "$SHARED/secret"
on "$host" kill "$pid"
wait_gone "$host" "$pid"

echo "--- the client"
rm -r "$SHARED/go" "$SHARED/images"
mkdir "$SHARED/images"
client_address=$(on_client ip -4 -o addr show dev eth0 | sed 's,.*inet \([0-9.]*\)/.*,\1,')
cat >"$SHARED/server.py" <<'PYTHON'
import os, socket, sys, time
address, path, go = sys.argv[1:]
with open(path, "rb") as file:
    content = file.read()
connection, _ = socket.create_server((address, 80)).accept()
connection.recv(65536)
connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + content[:100000])
while not os.path.exists(go):
    time.sleep(0.01)
connection.sendall(content[100000:])
PYTHON
start_on client "$SHARED/server.log" /usr/bin/python3 "$SHARED/server.py" "$client_address" "$file" "$SHARED/go" >/dev/null
wait_until on_client sh -c "ss -Hltn 'sport = :80' | grep -q LISTEN"
pid=$(start_on a "$SHARED/curl.log" curl -sS --no-buffer --interface "$service" -o "$SHARED/received" "http://$client_address/file")
wait_until has_begun "$SHARED/received"
carry_service "$@"
touch "$SHARED/go"
wait_gone "$host" "$pid"
[ ! -s "$SHARED/curl.log" ] || fail "curl complained"
check_copy "$SHARED/received"
