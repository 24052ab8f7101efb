# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# Saved while it goes on, then killed, then restored.
carry() {
	save one --leave-running
	end_original a
	bring_back one
}
