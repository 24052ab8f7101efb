/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a tree of processes has open: its descriptors, which descriptions they share, and of which kind those are.
 *
 * A table is made twice. Before the freeze, to find all that can't be carried; and in the freeze, with the first one
 * known: then a descriptor costs one read of its fdinfo, since which file it is doesn't change as long as mount and
 * inode are the same.
 */
#pragma once

#include "objects/objects.h"
#include "util/problems.h"

struct file_table;

/* tasks are borrowed until free. known, of the same tasks, may be NULL; it isn't needed after the call. */
MUST_USE struct error *file_table_read(const struct open_task *tasks, size_t task_count, const struct file_table *known,
                                       const struct carry_options *options, struct file_table **ret_table);
void file_table_free(struct file_table *table);
DEFINE_OWNED(struct file_table *, file_table_free)
#define auto_file_table AUTO(file_table_free)

/* Closes the copies of descriptors that looking at files has made: a copy delays EOF, FIN and the release of locks. So it
 * is to be called when the program goes on; and where it runs, after each of the calls below. */
void file_table_drop_copies(struct file_table *table);

/* How many descriptors there are. */
size_t file_table_count(const struct file_table *table);

/* Standard streams that can't go along, or whose other end stays, become what the options say. Before the check; in tables
 * that are read with this one known they are the same. Not while the program is frozen. */
void file_table_replace_stdio(struct file_table *table);

/* Adds what can't be carried to problems. Not while the program is frozen. */
void file_table_check(const struct file_table *table, struct problems *problems);

/* True where the network must be locked before file_table_save_held(). */
bool file_table_needs_lock(const struct file_table *table);

/* What the network lock has to stop. The caller frees the array with free(3). */
MUST_USE struct error *file_table_flows(const struct file_table *table, struct flow **ret_flows, size_t *ret_count);

/* Files that aren't as they were while they are saved: file_ops.hold. Owned, descriptors and array. */
struct held_files {
	struct held_file {
		const struct file_ops *ops;
		uint32_t id; /* of the file */
		int fd;      /* owned */
		uint32_t before;
	} * list;
	size_t count;
};

/* Descriptions from, from + 1 … until - 1 of the table, those that need no lock: before file_table_save_held(). */
MUST_USE struct error *file_table_hold(const struct file_table *table, size_t from, size_t until,
                                       struct held_files *held);

/* Those that need the lock. */
MUST_USE struct error *file_table_hold_locked(const struct file_table *table, struct held_files *held);

/*
 * Adds the descriptors that are in flight in those descriptions, which are held, at the end of the table. They may be
 * sockets with others in flight: until nothing is added any more.
 */
MUST_USE struct error *file_table_add_in_flight(struct file_table *table, size_t from, size_t until);
size_t file_table_descriptions(const struct file_table *table);

/* Calls with each file that is connected anew where the program comes to. Not while the program is frozen. */
void file_table_outlets(const struct file_table *table,
                        void (*call)(const struct open_file *file, const struct outlet *outlet, void *data),
                        void *data);

/* Asks what file_table_save_held() will need to know about many connections, by two threads. What is asked holds as long
 * as the program stands still. */
MUST_USE struct error *file_table_ask(struct file_table *table);
void file_table_forget_answers(struct file_table *table);

/* What is on its way, of all connections. */
MUST_USE struct error *file_table_unsent(const struct file_table *table, struct unsent *ret_unsent);

/* Puts the descriptors of all tables (fdinfo-FILESID.img) and all files into the store, but those that must be held or locked. */
MUST_USE struct error *file_table_save(const struct file_table *table, struct image_store *store);

/* Puts the others into the store. */
MUST_USE struct error *file_table_save_held(const struct file_table *table, const struct held_files *held,
                                            struct image_store *store);

/* Puts what can be told of files while the program runs, and is looked for elsewhere: paths, ports, watches. */
void file_table_sketch(const struct file_table *table, struct image_store *store);

/* For what refers to files without a descriptor: mappings, cwd … Borrowed. */
struct open_files *file_table_open_files(struct file_table *table);

/* Calls with each description that is of a kind, in the order of ids. */
MUST_USE struct error *file_table_each(const struct file_table *table, FdTypes type,
                                       struct error *(*call)(const struct open_file *file, void *data), void *data);
