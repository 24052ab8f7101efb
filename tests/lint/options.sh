#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# options.sh GODWIT ROOT: fails on a command without a manual page, on an option that isn't in it or that the completion
# doesn't offer, and on an option there that the program doesn't have.
set -eu
godwit=$1 docs=$2/docs
failed=0

complain() {
	echo "$*"
	failed=1
}

# shellcheck source=docs/godwit.bash
. "$docs/godwit.bash"

# offered WORD...: what the completion says when the last word has only been begun
offered() {
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	_godwit "$godwit" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
	printf '%s\n' "${COMPREPLY[@]}"
}

# Options as --help has them: "-t, --tree PID".
help_options() { "$godwit" "$1" --help | grep -oE '^ +(-[A-Za-z], +)?--[a-z-]+' | sed 's/^ *//; s/,//'; }

# … and as a page has them: "*-t*, *--tree* _PID_", with what it does in a line behind a tab.
page_options() {
	awk '/^\t/ && head ~ /^\*-/ { print head } { head = $0 }' "$1" | while read -r line; do
		grep -oE '\*--?[A-Za-z][a-z-]*\*' <<<"$line" | tr -d '*' | paste -sd ' '
	done
}

commands=$("$godwit" --help | sed -n 's/^  \([a-z-]*\) .*/\1/p')
[ -n "$commands" ] || complain "godwit --help lists no command"
for command in $commands; do
	page=$docs/godwit-$command.1.scd
	[ -f "$page" ] || { complain "no manual page for $command: $page"; continue; }
	grep -qF "*godwit-$command*(1)" "$docs/godwit.1.scd" ||
		complain "godwit.1.scd doesn't list $command"
	difference=$(diff <(help_options "$command" | sort) <(page_options "$page" | sort)) ||
		complain "--help (<) and $page (>) differ: $difference"
	for option in $(help_options "$command"); do
		offered godwit "$command" "$option" | grep -qxe "$option" || complain "completion doesn't offer $option to $command"
	done
done

# The words behind them, too.
offered godwit mi | grep -qx migrate || complain "completion doesn't know migrate"
offered godwit dump --tree "$$" | grep -qx "$$" || complain "completion offers no PIDs behind --tree"
offered godwit dump -t "$$" | grep -qx "$$" || complain "completion offers no PIDs behind -t"
offered godwit restore -D / | grep -qx /usr || complain "completion offers no folders behind -D"
offered godwit migrate --stdio jou | grep -qx journal || complain "completion offers no kinds behind --stdio"
exit $failed
