#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 scope.sh SUBJECT: where systemd runs, a restored program gets a transient scope; where systemd refuses, a
# control group of godwit's making, and the log says why. There is no systemd here: process 1 of a PID namespace has its
# name, and a busctl of ours does what it would.
set -eu
subject=$1
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

top=$(on_a sed -nE '/ - cgroup2 /!d; s/^([^ ]+ ){4}([^ ]+) .*/\2/p' /proc/self/mountinfo | head -n 1)
slice=slice-$(cat /proc/sys/kernel/random/uuid)
if [ -z "$top" ] || ! on_a mkdir "$top/$slice" 2>"$SHARED/mkdir.log"; then
	echo "SKIP: no control groups of version 2 can be made here"
	exit 77
fi

bin=$SHARED/bin
mkdir "$bin"
cat >"$bin/busctl" <<SCRIPT
#!/bin/sh
echo "\$*" >>$SHARED/asked
[ ! -e $SHARED/refuses ] || { echo "Call failed: Access denied" >&2; exit 1; }
for word; do
	case \$word in
	*.scope) name=\$word ;;
	PIDs) is_next=1 ;;
	au | [12]) ;;
	*) [ ! "\${is_next:-}" ] || { pid=\$word is_next=; } ;;
	esac
done
mkdir "$top/$slice/\$name"
echo "\$pid" >"$top/$slice/\$name/cgroup.procs"
SCRIPT
# Process 1: restores it, lets it check itself, and tells where it was. Its own end would end it.
cat >"$bin/systemd" <<SCRIPT
#!/bin/sh
mkdir -p /run/systemd/system
PATH=$bin:\$PATH $GODWIT restore -d -D "\$2" -o restore.log || exit 1
grep '^0::' "/proc/\$1/cgroup" >"\$2/group"
kill -USR1 "\$1"
"$HOSTS" wait "\$3" 30
SCRIPT
chmod +x "$bin/busctl" "$bin/systemd"

# restored NAME: saved, and brought back below such a process 1
restored() {
	dir=$SHARED/$1 images=$SHARED/$1.images
	mkdir "$dir" "$images"
	pid=$(start_on a "$SHARED/$1.log" "$subject" "$dir")
	wait_for "$dir/ready"
	on_a "$GODWIT" dump -t "$pid" -D "$images"
	wait_gone a "$pid"
	: >"$SHARED/asked"
	on_a unshare --pid --fork --mount-proc "$bin/systemd" "$pid" "$images" "$dir/verdict" || fail "it was not restored"
	wait_for "$dir/verdict"
	[ "$(cat "$dir/verdict")" = pass ] || fail "$(cat "$dir/verdict")"
	[ "$(wc -l <"$SHARED/asked")" = 1 ] || fail "asked: $(cat "$SHARED/asked")"
}

restored scope
group=$(cut -d : -f 3 "$SHARED/scope.images/group")
case $group in
"/$slice/godwit-$pid-"????????.scope) ;;
*) fail "it was in $group" ;;
esac
grep -q "it is in the scope godwit-$pid-.*\.scope of systemd" "$SHARED/scope.images/restore.log" || fail "not in the log"
on_a rmdir "$top$group" "$top/$slice"
echo "ok a scope"

touch "$SHARED/refuses"
restored own
group=$(cut -d : -f 3 "$SHARED/own.images/group")
case $group in
"/godwit-$pid-"????????) ;;
*) fail "it was in $group" ;;
esac
grep -q "systemd has made no scope for it: .*Access denied" "$SHARED/own.images/restore.log" || fail "no reason in the log"
on_a rmdir "$top$group" || true # any other restore on the machine may have been faster
echo "ok a group where systemd refuses"
