/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a kind of open file has to know about itself.
 *
 * Each kind is one file here with both halves side by side and one struct file_ops at its end. What is the same for
 * every open file (number in the table, close-on-exec, status flags, owner, who shares it) is done by the caller,
 * so that no kind can forget it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fdinfo.pb-c.h"
#include "image/store.h"
#include "task/batch.h"

/* What the user allowed. Borrowed by everything below. */
struct carry_options {
	bool shell_job;             /* terminals of a session that stays behind are inherited */
	bool tcp_established;       /* TCP connections are carried, not refused */
	uint64_t ghost_limit_bytes; /* the largest deleted file whose content goes into the image */
};

/*
 * An open file description, seen from outside. fdinfo, status_flags and owner are as of the freeze (in check(): as of
 * now); the rest doesn't change as long as the description lives. All borrowed.
 */
struct open_file {
	uint32_t id;           /* names it in the image */
	pid_t pid;             /* of a task that has it */
	int pidfd;             /* of the same */
	int fd;                /* its number there; the lowest one, if it has several */
	const char *link;      /* what /proc/PID/fd/N points to */
	struct stat stat;      /* fstat(2) of it */
	const char *fdinfo;    /* text of /proc/PID/fdinfo/N */
	uint32_t status_flags; /* F_GETFL: no O_CLOEXEC, which belongs to the descriptor */
	FownEntry *owner;
	const struct carry_options *options;
};

/* A copy of the description's descriptor in this process: pidfd_getfd(2). The caller closes it, soon: a copy that is
 * held delays EOF and the release of locks. */
MUST_USE struct error *open_file_copy(const struct open_file *file, int *ret_fd);

/* What a restore of files works with. */
struct restore_files;

/* The other end of a pipe or pair, made together with the first and kept until its own entry is restored; -1: none.
 * key is the type's own. Giving hands over, taking too. */
int restore_spare_take(struct restore_files *restore, FdTypes type, uint64_t key);
void restore_spare_give(struct restore_files *restore, FdTypes type, uint64_t key, int fd);

const struct image_store *restore_store(const struct restore_files *restore);
const struct carry_options *restore_options(const struct restore_files *restore);

/*
 * A file that restore() made, in one of two ways. Here: local_fd is a descriptor of this process (owned by the caller
 * from then on), which the task will fetch with pidfd_getfd(2). Or there: fd stands for the result of a call in the
 * batch. The first is the simpler; the second is for what the kernel remembers about its maker (SO_PEERCRED …).
 */
struct made_file {
	int local_fd;           /* -1: made by the batch */
	struct arg fd;          /* in the task that runs the batch */
	uint32_t status_flags;  /* for the caller to set with F_SETFL */
	const FownEntry *owner; /* for the caller to set; borrowed from the entry; NULL: none */
};

/* A description that is in its place(s) in the task's table. */
struct placed_file {
	const FileEntry *entry;
	int fd; /* its lowest number there */
};

struct file_ops {
	const char *name; /* as in errors and in godwit-objects(7) */
	FdTypes type;

	bool (*recognizes)(const struct open_file *file);

	/*
	 * NULL (or an error that says why this file can't be carried and what the user may do: "packet socket,
	 * listening on eth0"). Called before anything is frozen; must not disturb the program. May be NULL.
	 */
	struct error *(*check)(const struct open_file *file);

	/* True for a connection whose state may be read only behind the network lock. May be NULL: never. */
	bool (*needs_lock)(const struct open_file *file);

	/* Bytes that the peer has not acknowledged yet, of a file that needs_lock(); the freeze waits for 0. */
	struct error *(*unsent)(const struct open_file *file, uint64_t *ret_bytes);

	/* Puts file into the images. Reads only: the program must not notice a save that fails half way. */
	struct error *(*save)(const struct open_file *file, struct image_store *store);

	/*
	 * Makes the file again. The entry comes from an image: checked for well-formed protobuf, nothing else.
	 * What is appended to the batch runs after this returns.
	 */
	struct error *(*restore)(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
	                         struct made_file *ret_made);

	/*
	 * What can be done only when all files of the task are in their places: watches of an epoll, descriptors in
	 * flight, locks. Appends to a batch in the task. May be NULL.
	 */
	struct error *(*finish)(const struct placed_file *file, struct restore_files *restore, struct batch *batch);

	/* After the network is unlocked: makes a connection work again (repair off, unsent bytes sent). fd is a copy
	 * in this process, borrowed. May be NULL. */
	struct error *(*resume)(const FileEntry *entry, const struct image_store *store, int fd);
};

/* The operations for a file of a program, or for an entry of an image. NULL: a kind we don't know. */
const struct file_ops *file_ops_for(const struct open_file *file);
const struct file_ops *file_ops_of_type(FdTypes type);
