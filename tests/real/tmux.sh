#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run tmux.sh restore|migrate [TIMES]: a server of tmux with vim, top and a shell in three panes. All screens are as
# they were, and each program goes on with its keys.
set -eu
# shellcheck source=tests/real/lib.sh
. "$(dirname "$0")/lib.sh"

folder=$SHARED/tmux
mkdir "$folder"
seq -f 'line %g of a text' 200 >"$folder/text"
# The programs are asked for what comes from no host: no status line with a clock, no name of the user's.
cat >"$folder/conf" <<'CONF'
set -g status off
set -g default-shell /bin/bash
set -g default-command 'env PS1="shell> " bash --norc --noprofile -i'
CONF

tmux() { on "$host" tmux -S "$folder/socket" "$@"; }
screen() { tmux capture-pane -p -t "$1"; }
shows() { screen "$1" | grep -q -e "$2"; }
runs() { [ "$(tmux display-message -p -t "$shell" '#{pane_current_command}')" = "$1" ]; }
refreshed() { [ "$(screen "$top")" != "$before" ]; }

host=a vim=%0 top=%1 shell=%2
take_address
tmux -f "$folder/conf" new-session -d -s main -x 100 -y 60 "vim -u NONE -N -n +150 $folder/text"
tmux split-window -t main 'top -d 0.3'
tmux split-window -t main
tmux select-layout -t main even-vertical
pid=$(tmux display-message -p '#{pid}')

# Each is in the middle of something: vim inserts, a command of the shell is typed in part.
wait_until shows "$vim" 'line 150 of a text'
tmux send-keys -t "$vim" o 'an unsaved line'
wait_until shows "$vim" 'an unsaved line'
wait_until shows "$vim" '-- INSERT --'
wait_until shows "$top" 'load average'
wait_until shows "$shell" 'shell>'
tmux send-keys -t "$shell" 'sleep 1000 &' Enter 'number=4711' Enter 'clear; tty' Enter 'echo $((number + '
wait_until shows "$shell" 'number +$'
vim_before=$(screen "$vim") shell_before=$(screen "$shell")

carry_service "$@"

[ "$(screen "$vim")" = "$vim_before" ] || fail "vim shows: $(screen "$vim"), and not: $vim_before"
[ "$(screen "$shell")" = "$shell_before" ] || fail "the shell shows: $(screen "$shell"), and not: $shell_before"
before=$(screen "$top")
wait_until refreshed
shows "$top" 'load average' || fail "top shows: $(screen "$top")"

tmux send-keys -t "$vim" Escape ':wq' Enter
tmux send-keys -t "$shell" '1))' Enter
wait_until shows "$shell" '^4712$'
tmux send-keys -t "$shell" 'jobs' Enter
wait_until shows "$shell" 'Running *sleep 1000 &'
tmux send-keys -t "$shell" 'cat' Enter
wait_until runs cat
tmux send-keys -t "$shell" 'to cat' Enter
wait_until shows "$shell" '^to cat$'
tmux send-keys -t "$shell" C-c
wait_until runs bash
tmux send-keys -t "$shell" 'echo interrupted: $?' Enter
wait_until shows "$shell" '^interrupted: 130$'
wait_until grep -q 'an unsaved line' "$folder/text"
tmux kill-server
wait_gone "$host" "$pid"
