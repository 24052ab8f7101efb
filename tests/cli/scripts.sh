#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run scripts.sh: --action-script is called at CRIU's points, in CRIU's order, with CRIU's environment, and a
# script that fails ends what is being done, with the program unharmed.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"

images=$SHARED/images
calls=$SHARED/calls
mkdir "$images"

# Notes its calls; fails at the point in $SHARED/refuse.
cat >"$SHARED/note" <<SCRIPT
#!/bin/sh
echo "\$1 \$CRTOOLS_SCRIPT_ACTION pid=\$CRTOOLS_INIT_PID dir=\$CRTOOLS_IMAGE_DIR" >>$calls
[ "\$CRTOOLS_SCRIPT_ACTION" != "\$(cat $SHARED/refuse 2>/dev/null)" ] || exit 42
SCRIPT
chmod +x "$SHARED/note"

start() { start_on "$1" "$SHARED/program.log" sleep 1000; }

# As the kernel has it: what the second of two scripts was called with.
points() { sed -n 's/^second \([^ ]*\) .*/\1/p' "$calls" | tr '\n' ' '; }

is_running() {
	case $(on_a ps -o stat= -p "$pid") in
	S*) ;;
	*) fail "the program doesn't run: $(on_a ps -o stat= -p "$pid")" ;;
	esac
}

with_scripts() {
	where=$1 command=$2
	shift 2
	rm -f "$calls"
	"$HOSTS" on "$where" "$GODWIT" "$command" --action-script "$SHARED/note first" \
		--action-script "$SHARED/note second" "$@"
}

expect_points() { [ "$(points)" = "$1 " ] || fail "called at '$(points)' instead of '$1 '"; }

# Saved, and brought back.
pid=$(start a)
with_scripts a dump --tree "$pid" --images-dir "$images" --leave-running
expect_points "pre-dump post-dump"
[ "$(grep -c "^first" "$calls")" = 2 ] || fail "not both scripts were called"
grep -q "^first post-dump pid=$pid dir=$images\$" "$calls" || fail "wrong environment: $(cat "$calls")"
is_running
rm -rf "$images"
mkdir "$images"
with_scripts a dump --tree "$pid" --images-dir "$images"
wait_gone a "$pid"
with_scripts a restore --images-dir "$images" --restore-detached
expect_points "pre-restore setup-namespaces post-setup-namespaces post-restore pre-resume post-resume"
grep -q "^first setup-namespaces pid=$pid dir=$images\$" "$calls" || fail "wrong environment: $(cat "$calls")"
is_running

# Refused at each point: the program runs on, the status of a post-dump script is godwit's.
for point in pre-dump post-dump; do
	rm -rf "$images"
	mkdir "$images"
	echo "$point" >"$SHARED/refuse"
	status=0
	with_scripts a dump --tree "$pid" --images-dir "$images" 2>"$SHARED/message" || status=$?
	cat "$SHARED/message"
	[ "$status" = "$([ "$point" = post-dump ] && echo 42 || echo 1)" ] || fail "status $status after $point failed"
	grep -q "script $SHARED/note first at $point: ended with status 42" "$SHARED/message" || fail "script isn't named"
	grep -q "^The program runs on" "$SHARED/message" || fail "it isn't said that the program runs on"
	is_running
done

# Refused while it is brought back: nothing of it stays.
rm -rf "$images" "$SHARED/refuse"
mkdir "$images"
with_scripts a dump --tree "$pid" --images-dir "$images"
wait_gone a "$pid"
for point in pre-restore setup-namespaces post-setup-namespaces post-restore pre-resume; do
	echo "$point" >"$SHARED/refuse"
	! with_scripts a restore --images-dir "$images" --restore-detached || fail "restored although $point failed"
	on_a test ! -e "/proc/$pid" || fail "something of the program is left after $point failed"
done
rm "$SHARED/refuse"

# Moved: each side has its own.
move() {
	with_scripts a migrate "$pid" b --max-freeze 60000 --ssh "$HOSTS ssh" --remote-path "$GODWIT" -M "--action-script=$SHARED/note there"
}
pid=$(start a)
for point in pre-dump post-dump pre-restore setup-namespaces post-restore; do
	echo "$point" >"$SHARED/refuse"
	! move || fail "moved although $point failed"
	is_running
	on_b test ! -e "/proc/$pid" || fail "something of the program is on b after $point failed"
done
rm "$SHARED/refuse"
move
expect_points "pre-dump post-dump"
[ "$(sed -n 's/^there \([^ ]*\) pid=\([0-9]*\).*/\1=\2/p' "$calls" | tr '\n' ' ')" = "pre-restore= \
setup-namespaces=$pid post-setup-namespaces=$pid post-restore=$pid pre-resume=$pid post-resume=$pid " ] ||
	fail "on b: $(cat "$calls")"
wait_gone a "$pid"

# The network of a program that has one of its own is for the scripts to lock.
pid=$(start_on a "$SHARED/program.log" unshare --net sleep 1000)
wait_until on_a sh -c "[ \"\$(cat /proc/$pid/comm)\" = sleep ]"
rm -rf "$images" "$calls"
mkdir "$images"
on_a nsenter --net --target "$pid" "$GODWIT" dump --tree "$pid" --images-dir "$images" --leave-running \
	--action-script "$SHARED/note second"
expect_points "pre-dump network-lock post-dump network-unlock"
echo post-dump >"$SHARED/refuse"
rm -rf "$images" "$calls"
mkdir "$images"
! on_a nsenter --net --target "$pid" "$GODWIT" dump --tree "$pid" --images-dir "$images" \
	--action-script "$SHARED/note second" || fail "saved although post-dump failed"
expect_points "pre-dump network-lock post-dump network-unlock"
rm "$SHARED/refuse"
is_running
