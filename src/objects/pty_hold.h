/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A pseudoterminal that is held: file_ops.hold. All that is needed to put it together again is behind one descriptor, for
 * this process and for the keeper: a UNIX socket in which the others are in flight.
 */
#pragma once

#include "objects/pty_queue.h"

/* Changes nothing yet. master is taken over. */
MUST_USE struct error *pty_hold(int master, int *ret_bundle);

/* Shares state and pipes with all others who open the same bundle. */
MUST_USE struct error *pty_hold_open(int bundle, struct pty **ret_pty);

/* For file_ops.go_on. */
MUST_USE struct error *pty_hold_go_on(int bundle, uint32_t before);
