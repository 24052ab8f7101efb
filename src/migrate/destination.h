/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * The destination's side of a live migration: builds what it is sent, and lets it run on GO.
 *
 * Until GO nothing of it outlives this process; from GO on it is finished whatever becomes of the connection.
 */
#pragma once

#include <stdbool.h>

#include "checkpoint/hooks.h"
#include "migrate/channel.h"
#include "util/error.h"
#include "util/log.h"

struct receive_options {
	const char *state_dir;
	struct hooks *hooks; /* borrowed; may be NULL */
	struct log *log;     /* borrowed; may be NULL */
};

/* What one connection has brought. */
struct received {
	pid_t pid;       /* of the program that runs here now; 0: none */
	bool is_told;    /* a failure: the other side knows of it */
	bool is_awaited; /* the source doesn't know yet that it runs: it will ask */
	char *warning;   /* owned: what went wrong behind GO, when it could only go on; NULL: nothing */
};

/* Serves one connection: a migration, or a question about one. */
MUST_USE struct error *receive_run(struct channel *channel, const struct receive_options *options,
                                   struct received *ret_received);
