#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The godwit authors

# hosts run nginx-workers.sh restore|migrate TIMES WORKERS: nginx.sh with a master and its workers.
exec "$(dirname "$0")/nginx.sh" "$@"
