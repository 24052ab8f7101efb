/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a program needs of the host where it is to be, besides what its files are: PIDs, memory, processor,
 * limits, addresses. Read from the running program, asked of the other host before anything is frozen, all at once.
 */
#pragma once

#include "checkpoint/save/save.h"
#include "godwit-needs.pb-c.h"
#include "util/problems.h"

/* saver is of the running program; cpu_caps of enum cpu_cap; arriving are addresses that move along ("ADDR/PREFIX"). */
struct needs_request {
	pid_t pid;
	const struct saver *saver;
	bool is_shell_job;
	bool new_pids; /* it will be in a PID namespace of its own */
	unsigned cpu_caps;
	const char *const *arriving;
	size_t arriving_count;
};

/* The caller frees with needs_free(). */
MUST_USE struct error *needs_read(const struct needs_request *request, GodwitNeeds **ret_needs);

/* The same from images. What can be found without it isn't in it. */
struct needs_images {
	const struct image_store *store;
	int images_dir_fd;
	const struct carry_options *carry;
	bool new_pids; /* it will be in a PID namespace of its own */
	unsigned cpu_caps;
};
MUST_USE struct error *needs_of_images(const struct needs_images *request, GodwitNeeds **ret_needs);
void needs_free(GodwitNeeds *needs);
DEFINE_OWNED(GodwitNeeds *, needs_free)
#define auto_needs AUTO(needs_free)

/* Where a PID is always the same process: this boot and PID namespace. The caller frees; NULL: not known. */
char *needs_pid_space(void);

/* Adds all that this host lacks. False: the program is on this very host, and nothing else is said. */
bool needs_check(const GodwitNeeds *needs, struct problems *problems);
