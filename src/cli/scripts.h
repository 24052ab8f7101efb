/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * --action-script: commands of the user that are run at the points of hooks.h, as CRIU runs them.
 *
 * Each is given to sh(1), so it may have arguments. Its environment says where it was called: CRTOOLS_SCRIPT_ACTION,
 * the point; CRTOOLS_IMAGE_DIR, the folder of the images, where there is one; CRTOOLS_INIT_PID, the program's PID,
 * where there is one. It reads nothing, and what it prints goes to our standard error. All scripts are called at each
 * point, and each has to end with status 0.
 */
#pragma once

#include <stddef.h>

#include "checkpoint/hooks.h"

enum { SCRIPTS_MAX = 16 };

struct scripts {
	struct hooks hooks;            /* first: given to scripts_hooks' callers */
	const char *list[SCRIPTS_MAX]; /* borrowed */
	size_t count;
	const char *images_dir; /* borrowed; NULL: none */
	int post_dump_status;   /* what a post-dump script refused with, which dump ends with then; 0: none did */
};

MUST_USE struct error *scripts_add(struct scripts *scripts, const char *command);

/* NULL where there are no scripts. */
struct hooks *scripts_hooks(struct scripts *scripts);
