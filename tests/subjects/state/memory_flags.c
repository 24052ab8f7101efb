/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Of the memory as a whole: PR_SET_DUMPABLE, core dump filter, PR_SET_THP_DISABLE, PR_SET_MEMORY_MERGE, PR_SET_MDWE,
 * and registrations of membarrier(2). Kernels that lack one of them have nothing to check there.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "crew.h"

enum {
	SET_MDWE = 65,
	GET_MDWE = 66,
	REFUSE_EXEC_GAIN = 1,
	NO_INHERIT = 2,
	SET_MEMORY_MERGE = 67,
	GET_MEMORY_MERGE = 68,
	BARRIER_REGISTER = 1 << 4, /* MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED */
	BARRIER_EXPEDITED = 1 << 3,
	BARRIER_GLOBAL_REGISTER = 1 << 2,
	BARRIER_REGISTRATIONS = 1 << 9,
};

struct flags {
	long dumpable, thp_disabled, merge, mdwe, barriers;
	char filter[16];
};

static struct flags look(const struct subject *subject)
{
	struct flags flags = {
		.dumpable = prctl(PR_GET_DUMPABLE),
		.thp_disabled = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0),
		.merge = prctl(GET_MEMORY_MERGE, 0, 0, 0, 0),
		.mdwe = prctl(GET_MDWE, 0, 0, 0, 0),
		.barriers = syscall(SYS_membarrier, BARRIER_REGISTRATIONS, 0, 0),
	};
	int fd = open("/proc/self/coredump_filter", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, flags.filter, sizeof(flags.filter) - 1) < 0)
		subject_fail(subject, "core dump filter: errno %d", errno);
	close(fd);
	return flags;
}

/* Whoever has no dump flag owns nothing in /proc: the filter is set before. */
static void set_up(const struct subject *subject)
{
	int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "0x1a5", 5) != 5 || close(fd) != 0)
		subject_fail(subject, "core dump filter: errno %d", errno);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	prctl(SET_MEMORY_MERGE, 1, 0, 0, 0);
	prctl(SET_MDWE, REFUSE_EXEC_GAIN | NO_INHERIT, 0, 0, 0);
	if (syscall(SYS_membarrier, BARRIER_REGISTER, 0, 0) != 0 ||
	    syscall(SYS_membarrier, BARRIER_GLOBAL_REGISTER, 0, 0) != 0)
		subject_fail(subject, "membarrier: errno %d", errno);
	prctl(PR_SET_DUMPABLE, 0);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);

	set_up(&subject);
	const struct flags before = look(&subject);
	if (before.dumpable != 0 || before.thp_disabled != 1 || strcmp(before.filter, "000001a5\n") != 0)
		subject_fail(&subject, "set-up: dumpable %ld, THP %ld, filter %s", before.dumpable, before.thp_disabled,
		             before.filter);

	subject_ready(&subject);

	const struct flags after = look(&subject);
	if (memcmp(&after, &before, sizeof(after)) != 0)
		subject_fail(&subject, "dumpable %ld, THP disabled %ld, merge %ld, MDWE %ld, barriers %#lx, filter %s",
		             after.dumpable, after.thp_disabled, after.merge, after.mdwe, after.barriers, after.filter);
	if (syscall(SYS_membarrier, BARRIER_EXPEDITED, 0, 0) != 0)
		subject_fail(&subject, "membarrier isn't registered any more: errno %d", errno);
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (before.mdwe > 0 && mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0)
		subject_fail(&subject, "written memory may become executable");
	return subject_pass(&subject);
}
