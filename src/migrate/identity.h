/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* What the two sides tell each other of themselves. */
#pragma once

/* Of what is said between them. Both must have the same. */
enum { MIGRATE_VERSION = 2 };

const char *identity_release(void);

/* Names the time since this host has booted: proc_sys_kernel(5), random/boot_id. The caller frees. */
char *identity_boot_id(void);
