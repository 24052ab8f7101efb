/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "util/test_stop.h"

void test_stop(const char *phase)
{
	const char *wanted = getenv("GODWIT_TEST_STOP_AT"); /* NOLINT(concurrency-mt-unsafe): nobody sets it */
	size_t length = strlen(phase);

	if (!wanted || strncmp(wanted, phase, length) != 0)
		return;
	if (wanted[length] == '\0')
		raise(SIGKILL);
	else if (strcmp(wanted + length, ":STOP") == 0)
		raise(SIGSTOP);
}
