/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What reading and using a table of files share. For file_table*.c only. */
#pragma once

#include "checkpoint/file_table.h"

/* What a description's struct open_file borrows. */
struct description {
	char *link;
	char *fdinfo;
	FownEntry owner;
	const struct file_ops *ops; /* NULL: of no kind that we know */
	uint64_t mount, inode;      /* of fdinfo: they tell whether it is the same as before */
	size_t rank;                /* in order, once the table is complete */
	bool is_lock_known, needs_lock;
	void *answers; /* owned: room for those of file_ops.read; NULL: not asked */
};

struct number {
	struct open_number number;
	char *locks;  /* owned: its number.locks */
	size_t index; /* of the description */
	bool is_close_on_exec;
};

struct file_table {
	struct open_files open_files;
	const struct carry_options *options;
	struct open_file *list;           /* owned; the descriptions */
	struct description *descriptions; /* owned; one for each in list */
	size_t count;
	struct number *numbers;           /* owned; ascending by task and fd */
	struct open_number *open_numbers; /* owned: the same for open_files */
	size_t number_count;
	size_t *order; /* owned: indices into list, by device, inode and kcmp(2)'s order */
	size_t room;   /* of list, descriptions and order */

	/* Of those in flight, which have no number. */
	int own_pidfd; /* owned; -1: there are none */
	int *copies;   /* owned, with its descriptors */
	size_t copy_count;
};

/* One answer for all that is done with this table, whatever a peer does meanwhile. */
bool file_table_needs_lock_at(const struct file_table *table, size_t index);

/* It has no number in a task: unix(7), SCM_RIGHTS. */
bool file_table_is_in_flight(const struct open_file *file);

/* Says which process an error is about, if that isn't the root. NULL stays NULL. */
struct error *file_table_about_task(struct error *error, const struct open_file *file);

/* Says which file an error is about. NULL stays NULL. */
struct error *file_table_about(struct error *error, const struct open_file *file);

/* Does the number of that process still lead there? */
bool file_table_is_link(pid_t pid, int fd, const char *expected);
