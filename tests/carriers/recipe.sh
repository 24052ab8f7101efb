# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# The recipe with a shared folder: saved and left stopped, restored on the other host, and the original killed.
carry() {
	save one --leave-stopped
	host=b
	bring_back one
	end_original a
}
