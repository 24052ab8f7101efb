/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* The messages of a tree of processes, unpacked from a store and checked for what a restore relies on. */
#pragma once

#include "checkpoint/tree.h"
#include "core.pb-c.h"
#include "fs.pb-c.h"
#include "godwit-thread.pb-c.h"
#include "image/store.h"
#include "mm.pb-c.h"
#include "pstree.pb-c.h"

/* The messages of one process. */
struct model {
	const struct image_store *store; /* borrowed */
	pid_t pid;
	PstreeEntry *pstree; /* all owned */
	TaskKobjIdsEntry *ids;
	MmEntry *mm;                /* NULL: of another task, which owns it */
	FsEntry *fs;                /* of a zombie ids, mm and fs are NULL */
	CoreEntry **cores;          /* in the order of pstree->threads; the first is the leader's */
	GodwitThreadEntry **extras; /* the same; empty ones where the image has none */
	size_t thread_count;
};

/* Which processes there are, and what they share. The caller frees it. */
MUST_USE struct error *model_read_tree(const struct image_store *store, struct tree *ret_tree);

/* What becomes of that task of the tree. */
MUST_USE struct error *model_read(const struct image_store *store, const struct tree *tree, size_t task,
                                  struct model **ret_model);
void model_free(struct model *model);
DEFINE_OWNED(struct model *, model_free)
#define auto_model AUTO(model_free)
