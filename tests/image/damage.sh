#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run -n 1 damage.sh SUBJECT: saves the subject, and then for each of its image files: a flipped bit, cut in half,
# empty, missing; and images that somebody has crafted (crafted.py). Each restore must fail with an error that names the
# file, and leave nothing behind.
set -eu
# shellcheck source=tests/lib/hosts.sh
. "$(dirname "$0")/../lib/hosts.sh"
here=$(dirname "$0")
good=$SHARED/good bad=$SHARED/bad out=$SHARED/out
mkdir "$SHARED/subject" "$good"
pid=$(start_on a "$SHARED/subject.log" "$1" "$SHARED/subject")
wait_for "$SHARED/subject/ready"
on_a "$GODWIT" dump --tree "$pid" --images-dir "$good" --tcp-established
wait_gone a "$pid"

count=0
# refused WHAT WORDS: a restore from $bad fails, says these words and what to do, and leaves nothing
refused() {
	count=$((count + 1))
	status=0
	on_a "$GODWIT" restore --images-dir "$bad" --restore-detached --tcp-established >"$out" 2>&1 || status=$?
	[ "$status" -eq 1 ] || fail "$1: status $status: $(cat "$out")"
	grep -q "^error: " "$out" || fail "$1: no error: $(cat "$out")"
	grep -Eq -- "$2" "$out" || fail "$1: '$2' isn't named: $(cat "$out")"
	! on_a test -e "/proc/$pid" || fail "$1: a task is left"
	wait_until alone # the keeper ends a moment later
}

fresh() {
	rm -rf "$bad"
	cp -a "$good" "$bad"
}

# Nothing runs but the host's first task and the shell that looks.
alone() { [ "$(on_a sh -c 'cd /proc && set -- [0-9]* && echo $#')" = 2 ]; }

for file in "$good"/*; do
	name=$(basename "$file")
	case $name in stats-dump | *.log) continue ;; esac
	fresh
	python3 "$here/flip.py" "$bad/$name"
	refused "$name with a flipped bit" "$(printf %s "$name" | sed 's/sums.godwit/./')"
	fresh
	truncate -s $(($(stat -c %s "$file") / 2)) "$bad/$name"
	[ "$name" = sums.godwit ] || refused "half of $name" "$name"
	fresh
	: >"$bad/$name"
	[ "$name" = sums.godwit ] || refused "an empty $name" "$name"
	fresh
	rm "$bad/$name"
	[ "$name" = sums.godwit ] || refused "without $name" "$name"
done

python3 "$here/crafted.py" list >"$SHARED/cases"
while IFS="$(printf '\t')" read -r number what words <&3; do
	fresh
	rm "$bad/sums.godwit"
	python3 "$here/crafted.py" make "$number" "$bad" "$pid"
	refused "$what" "$words"
done 3<"$SHARED/cases"

# Untouched, they work.
fresh
on_a "$GODWIT" restore --images-dir "$bad" --restore-detached --tcp-established
on_a kill -USR1 "$pid"
wait_for "$SHARED/subject/verdict"
[ "$(cat "$SHARED/subject/verdict")" = pass ] || fail "$(cat "$SHARED/subject/verdict")"
echo "$count damaged sets of images were refused"
