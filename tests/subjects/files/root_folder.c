/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* chroot(2): a root folder of its own, and a working folder in it. The program and its libraries lie outside. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "subject.h"

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	char folder[PATH_MAX] = "";
	struct stat before;
	struct stat after;

	if (chdir(subject.dir) != 0 || chroot(".") != 0)
		subject_skip(&subject, "chroot: errno %d", errno);
	subject.dir = "/";
	if (mkdir("/inside", 0700) != 0 || chdir("/inside") != 0 || stat("/", &before) != 0)
		subject_fail(&subject, "folder inside: errno %d", errno);

	subject_ready(&subject);

	if (stat("/", &after) != 0 || after.st_dev != before.st_dev || after.st_ino != before.st_ino)
		_exit(1); /* and no verdict, whose place isn't known */
	if (!getcwd(folder, sizeof(folder)) || strcmp(folder, "/inside") != 0)
		subject_fail(&subject, "the working folder is %s", folder);
	return subject_pass(&subject);
}
