# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# Moved live, in rounds, as users do.
carry() { move b; }
