/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Files that a process refers to without a descriptor: mapped ones, its executable, its working and root folder.
 *
 * Each gets an entry in files.img, with an id that stays the same from one save of a process to the next.
 */
#pragma once

#include "memory/areas.h"
#include "objects/objects.h"
#include "util/problems.h"

struct mapped_file;

struct mapped_files {
	struct mapped_file *list; /* owned */
	size_t count;
};

void mapped_files_free(struct mapped_files *files);

/* A new save begins: nothing has been put yet. */
void mapped_files_begin(struct mapped_files *files);

/* Adds the mapped files that can't be carried. */
void mapped_files_check(struct mapped_files *files, pid_t pid, const struct areas *areas, struct open_files *all,
                        struct problems *problems);

/* Puts the entry of an area's file, once, and tells its id. */
MUST_USE struct error *mapped_files_put_area(struct mapped_files *files, pid_t pid, const struct area *area,
                                             struct open_files *all, struct image_store *store, uint32_t *ret_id);

/* Puts those that have a name, as far as they can be told while the process runs. */
void mapped_files_sketch(struct mapped_files *files, pid_t pid, const struct areas *areas, struct open_files *all,
                         struct image_store *store);

/* Puts the entry of what a link under /proc/PID leads to: "cwd", "root", "exe". */
MUST_USE struct error *mapped_files_put_link(struct mapped_files *files, pid_t pid, const char *name,
                                             struct open_files *all, struct image_store *store, uint32_t *ret_id);
