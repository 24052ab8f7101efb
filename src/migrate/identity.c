/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <stdio.h>
#include <string.h>

#include "migrate/identity.h"
#include "util/alloc.h"
#include "util/own.h"
#include "version.h"

const char *identity_release(void)
{
	return GODWIT_VERSION;
}

char *identity_boot_id(void)
{
	char text[64] = "unknown";
	auto_file FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (file && fgets(text, sizeof(text), file))
		text[strcspn(text, "\n")] = '\0';
	return xformat("%s", text);
}
