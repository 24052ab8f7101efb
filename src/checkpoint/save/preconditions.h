/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What a process as a whole has to be like to be carried: everything that is no thread's, no file's and no area's, and no
 * matter of its tree (tree_read.h). */
#pragma once

#include "checkpoint/save/tree_read.h"
#include "util/problems.h"

/*
 * Adds all reasons why a running process of a tree can't be carried: namespaces that are not godwit's, a tracer, a
 * session that stays behind … files is what the tree has open. Reads /proc only.
 */
void preconditions_check(const struct live_tree *live, size_t task, const struct open_files *files,
                         const struct carry_options *options, struct problems *problems);

/* Does it belong to a session of others that it is to leave, as setsid(1) would have it? That is what --stdio asks for, but
 * with --shell-job. */
bool preconditions_detach(pid_t pid, const struct carry_options *options);
