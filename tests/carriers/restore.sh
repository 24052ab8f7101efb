# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# Saved, which ends it, and restored.
carry() {
	save one
	wait_gone "$host" "$pid"
	bring_back one
}
