# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# Completion for godwit in bash. Commands and options are those that --help lists, so they are always the program's own.

# The words at the start of lines of help: "  dump       Saves …"
_godwit_commands() { "$1" --help 2>/dev/null | sed -n 's/^  \([a-z-]*\) .*/\1/p'; }

# "-t, --tree PID" gives "-t --tree"
_godwit_options() { "$1" "$2" --help 2>/dev/null | grep -oE '^ +(-[A-Za-z], +)?--[a-z-]+' | tr -d ','; }

# What kind of argument an option takes, by the word that help calls it, which is in capitals: "PID".
_godwit_argument() {
	"$1" "$2" --help 2>/dev/null | awk -v option="$3" '
		$1 ~ /,$/ { letter = substr($1, 1, length($1) - 1); $1 = ""; $0 = $0 }
		$1 ~ /^--/ && ($1 == option || letter == option) && ($2 ~ /^[A-Z]+([^a-z]|$)/ || $2 ~ /[|]/) { print $2 }
		{ letter = "" }'
}

_godwit() {
	local program=$1 word=$2 previous=$3 command=${COMP_WORDS[1]}

	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_godwit_commands "$program") --help --version" -- "$word")
		return
	fi
	case $(_godwit_argument "$program" "$command" "$previous") in
	DIR) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
	*\|FILE) mapfile -t COMPREPLY < <(compgen -f -W "keep null journal" -- "$word") ;;
	FILE) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
	COMMAND) mapfile -t COMPREPLY < <(compgen -c -- "$word") ;;
	PID) mapfile -t COMPREPLY < <(compgen -W "$(ps -eo pid=)" -- "$word") ;;
	NAME) mapfile -t COMPREPLY < <(compgen -W "$("$program" check 2>/dev/null | awk '/^(ok|no) / { print $2 }')" -- "$word") ;;
	?*) ;;
	*) _godwit_other "$program" "$command" "$word" ;;
	esac
}

# An option; or what stands by itself, which is a PID and a host for migrate.
_godwit_other() {
	case $3 in
	-*) mapfile -t COMPREPLY < <(compgen -W "$(_godwit_options "$1" "$2") --help" -- "$3") ;;
	*) [ "$2" != migrate ] || mapfile -t COMPREPLY < <(compgen -W "$(ps -eo pid=)" -A hostname -- "$3") ;;
	esac
}

complete -F _godwit godwit
