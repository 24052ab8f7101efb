# shellcheck shell=sh disable=SC2034,SC2154 # $pid and $host are run-subject.sh's
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# Moved live with no round before the freeze: all its memory crosses while it stands still.
carry() { move b --max-rounds 0; }
