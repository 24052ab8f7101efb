# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# Moved live, with written pages told by hashes: the way that is left where the kernel knows no other.
carry() { move b --track hash; }
