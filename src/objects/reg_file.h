/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Files by their paths, as files.img has them: what descriptors, mappings, the working and root folder, the executable
 * and named pipes refer to. Deleted ones go into the image with their content.
 *
 * /proc tells a path, and that path may lead elsewhere: the file was deleted, renamed over, or a mount hides it. So the
 * path is only believed if the very same inode is found there.
 */
#pragma once

#include "objects/objects.h"

/* A file that is to be saved. All borrowed. */
struct reg_file {
	uint32_t id;        /* of its entry */
	const char *source; /* a link of /proc that leads to this file: "/proc/812/fd/5", "/proc/812/cwd" */
	const char *link;   /* what source pointed to the last time somebody looked; NULL: nobody has */
	dev_t dev;          /* of stat(2) */
	ino_t ino;
	uint32_t flags; /* F_GETFL; for what is no descriptor, what open(2) needs */
	uint64_t pos;
	FownEntry *owner;           /* NULL: of no descriptor */
	const uint8_t *build_id;    /* of reg_file_build_id() */
	size_t build_id_bytes;      /* 0: none */
	struct open_files *all;     /* notes which deleted files are in the image */
	uint64_t ghost_limit_bytes; /* the largest deleted file whose content goes into the image */
};

/* NULL, or an error that says why it can't be carried. */
MUST_USE struct error *reg_file_check(const struct reg_file *file);

/* Puts its entry into files.img and, where it has been deleted, its content into an image of its own. Runs frozen. */
MUST_USE struct error *reg_file_put(const struct reg_file *file, struct image_store *store);

/* The build ID of an ELF file, which is open for reading: its size in bytes; 0: it has none. */
enum { BUILD_ID_MAX_BYTES = 32 };
size_t reg_file_build_id(int fd, uint8_t ret_build_id[BUILD_ID_MAX_BYTES]);

/*
 * Opens here the file that an entry means, once it has been found to be that file: type, size, permissions, build ID. A
 * deleted one is made again at the first call. flags are those of open(2): O_CREAT and the like are left out.
 */
MUST_USE struct error *reg_file_open(const RegFileEntry *entry, uint32_t flags, struct restore_files *restore,
                                     int *ret_fd);

/* The same for the entry that has this id in files.img. */
MUST_USE struct error *reg_file_open_id(uint32_t id, uint32_t flags, struct restore_files *restore, int *ret_fd);

/* The entry that has this id. The caller frees it with file_entry__free_unpacked(). */
MUST_USE struct error *reg_file_find(uint32_t id, struct restore_files *restore, FileEntry **ret_entry);

/* Looks at all files of the store without opening any: NULL, or one error with a line for each that is missing or
 * different and, as hints, what brings them here. */
MUST_USE struct error *reg_files_verify(struct restore_files *restore);

/* The same for those only that the program writes, which may have changed since the others were looked at. */
MUST_USE struct error *reg_files_verify_written(struct restore_files *restore);
