/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The table of the parts of a task's state, in the order in which they are restored. */

#include "objects/state.h"

#define STATE(name) extern const struct state_ops name##_ops;
#include "state-parts.h"
#undef STATE

const struct state_ops *const all_state_ops[] = {
#define STATE(name) &name##_ops,
#include "state-parts.h"
#undef STATE
	NULL,
};
