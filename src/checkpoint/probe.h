/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What this kernel and our privileges allow: each thing that godwit relies on is tried, on ourselves or on a child made
 * for it. Versions and configurations aren't asked: kernels are patched, and privileges are taken away in many ways.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/error.h"

enum { PROBE_NAMES_MAX = 4 };

struct probe {
	const char *names[PROBE_NAMES_MAX]; /* the first is ours, the others are CRIU's for the same; NULL ends them */
	bool is_needed;                     /* without it nothing can be carried */
	const char *purpose;
	const char *without; /* what godwit does then */
	/* NULL: it works here. */
	struct error *(*run)(void);
};

/* All of them, the needed ones first. */
const struct probe *probes(size_t *ret_count);

/* The one with this name, or NULL. */
const struct probe *probe_find(const char *name);
