/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Memfds as files.img and memfd.img have them: what descriptors and mappings refer to.
 *
 * What one holds is no business of this file: it is sent as shared memory, by the id in memfd_inode_entry.shmid, and
 * whoever restores has the object made (memfd_make()), filled and ended (memfd_seal()).
 */
#pragma once

#include "memfd.pb-c.h"
#include "objects/objects.h"

/* An open memfd, or one that is mapped. All borrowed. */
struct memfd {
	uint32_t id;        /* of its entry in files.img */
	const char *source; /* a link of /proc that leads to it */
	uint32_t flags;     /* F_GETFL */
	uint64_t pos;
	FownEntry *owner;       /* NULL: of no descriptor */
	struct open_files *all; /* notes which are in the image */
};

/* Puts its entry into files.img, and the object itself, once, into memfd.img. Runs frozen. */
MUST_USE struct error *memfd_put(const struct memfd *memfd, struct image_store *store);

/* Makes the object of an entry, of no size, without seals. The caller closes it. */
MUST_USE struct error *memfd_make(const MemfdInodeEntry *inode, int *ret_fd);

/* Owner, mode and seals, once nothing is to be written any more and all are mapped that may write. */
MUST_USE struct error *memfd_seal(const MemfdInodeEntry *inode, int fd);

/* Where the objects are while files are restored, by memfd_inode_entry.shmid: copies of what memfd_make() made, which
 * are handed over. */
void memfd_give(struct restore_files *restore, uint32_t shmid, int fd);

/* Opens the memfd of the entry that has this id in files.img once more. */
MUST_USE struct error *memfd_open_id(uint32_t id, uint32_t flags, struct restore_files *restore, int *ret_fd);
