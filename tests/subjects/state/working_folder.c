/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Working folder and umask. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "subject.h"

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	char before[PATH_MAX];
	char after[PATH_MAX];
	struct stat made = {0};

	umask(0137);
	if (chdir(subject.dir) != 0 || mkdir("a folder (deleted)", 0755) != 0 ||
	    chmod("a folder (deleted)", 0755) != 0 || chdir("a folder (deleted)") != 0 ||
	    !getcwd(before, sizeof(before)))
		subject_fail(&subject, "working folder: errno %d", errno);

	subject_ready(&subject);

	if (!getcwd(after, sizeof(after)) || strcmp(before, after) != 0)
		subject_fail(&subject, "working folder %s, was %s", after, before);
	if (mkdir("made", 0777) != 0 || stat("../a folder (deleted)/made", &made) != 0 ||
	    (made.st_mode & 07777) != 0640)
		subject_fail(&subject, "a new folder has mode %o, errno %d", made.st_mode & 07777, errno);
	return subject_pass(&subject);
}
