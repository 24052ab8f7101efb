/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <ftw.h>
#include <stdio.h>

#include "util/folder.h"

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *place)
{
	(void)stat;
	(void)type;
	(void)place;
	remove(path); /* what can't be removed stays, the rest goes */
	return 0;
}

void folder_remove(const char *path)
{
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT); /* NOLINT(concurrency-mt-unsafe): one thread */
}
