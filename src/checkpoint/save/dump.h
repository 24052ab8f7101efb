/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Saving a process into a directory: freeze, save, and what becomes of the program then. */
#pragma once

#include "checkpoint/hooks.h"
#include "objects/objects.h"
#include "util/error.h"
#include "util/log.h"

enum dump_end {
	DUMP_KILL, /* the program is ended, once all is safely on disk */
	DUMP_LEAVE_STOPPED,
	DUMP_LEAVE_RUNNING,
};

struct dump_options {
	pid_t pid;
	int images_dir_fd; /* borrowed */
	enum dump_end end;
	/* Memory: only what was written since that was saved into the parent (from the folder of the images; NULL: all), and
	 * for the next one to know what was written since now. */
	const char *parent_dir;
	bool tracks_memory;
	uint64_t wait_children_ns; /* how long the end of child processes is waited for */
	struct carry_options carry;
	struct hooks *hooks; /* borrowed; may be NULL */
	struct log *log;     /* borrowed; may be NULL */
};

/* What became of the program, whether the dump went well or not. */
enum dump_outcome {
	DUMP_RUNS,    /* it runs on, unharmed */
	DUMP_STOPPED, /* it is stopped, as asked */
	DUMP_ENDED,   /* it was killed, as asked */
};

/* Durations in ns, and what was saved. */
struct dump_statistics {
	uint64_t freezing_ns, frozen_ns, memory_ns, write_ns;
	uint64_t pages_scanned, pages_kept, pages_written; /* kept: unchanged since the parent */
	char *warning;                                     /* owned; NULL: there is none */
};
void dump_statistics_free(struct dump_statistics *statistics); /* what it points to */

/* Saves memory alone, while the program runs; of options, end counts for nothing. */
MUST_USE struct error *predump_run(const struct dump_options *options, struct dump_statistics *ret_statistics);

/* Writes stats-dump into a folder. */
MUST_USE struct error *dump_statistics_write(const struct dump_statistics *statistics, int dir_fd);

/* The images are complete and on disk when this succeeds; when it fails the program runs on. */
MUST_USE struct error *dump_run(const struct dump_options *options, enum dump_outcome *ret_outcome,
                                struct dump_statistics *ret_statistics);
