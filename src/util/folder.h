/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Folders that are ours for a while. */
#pragma once

/* Removes one with all that is in it, as far as possible: not across a file system, not through a link. */
void folder_remove(const char *path);
