/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The look at a program that runs, with which dump, pre-dump and migrate begin: can it be carried? */
#pragma once

#include "checkpoint/save/children.h"
#include "checkpoint/save/save.h"

/* Waits for children first. The error tells everything that is in the way. A tree whose processes come and go faster than
 * they can be looked at is stopped for a moment, for which calls is needed: freeze.h. */
MUST_USE struct error *first_look(struct children_wait *wait, const struct carry_options *options,
                                  struct tree_calls *calls, struct saver **ret_saver);

/* The same once more with that saver, because its processes are others by now. */
MUST_USE struct error *first_look_again(struct children_wait *wait, struct tree_calls *calls, struct saver *saver);

/* The same of a tree that stands still: in the place of the look that a freeze asks for. EAGAIN: all that is in the way passes
 * when it runs on. */
MUST_USE struct error *first_look_held(struct saver *saver);
