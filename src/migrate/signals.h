/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Signals that ask us to stop: SIGINT, SIGTERM, SIGHUP, SIGQUIT. They are blocked, so that nothing is cut in the middle,
 * and looked for between two steps and while we wait for somebody.
 */
#pragma once

#include "util/error.h"

void signals_block(void);

/* A descriptor that can be read when one has come. The caller closes it. */
MUST_USE struct error *signals_watch(int *ret_fd);

/* NULL, or which one has come. */
MUST_USE struct error *signals_check(void);
