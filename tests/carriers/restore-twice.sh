# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# There, saved again, and back: what a restored program lacks shows when it is saved.
carry() {
	save one
	wait_gone a "$pid"
	host=b
	bring_back one
	save two
	wait_gone b "$pid"
	host=a
	bring_back two
}
