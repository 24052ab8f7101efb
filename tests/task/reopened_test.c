/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A program that closes files and opens others, which get the same numbers, while it is looked at: what is known of a
 * descriptor is of one file, not half of each. In the freeze it would be believed.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/file_table.h"
#include "checkpoint/file_table_parts.h"
#include "lib/unit.h"
#include "util/procfs.h"

enum { LOOKS = 3000 };

_Noreturn static void be_restless(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_range(0, UINT32_MAX, 0);
	for (;;) {
		int event = eventfd(0, EFD_CLOEXEC);
		close(event);
		int memory = memfd_create("restless", MFD_CLOEXEC);
		close(memory);
		int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		close(socket_fd);
		if (event != memory || memory != socket_fd)
			abort();
	}
}

static bool begins_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static void check_one(const struct description *description, const struct open_file *file)
{
	assert_int_equal(description->inode, file->stat.st_ino);
	assert_int_equal(S_ISSOCK(file->stat.st_mode), begins_with(file->link, "socket:"));
	if (begins_with(file->link, "anon_inode:[eventfd]"))
		assert_non_null(strstr(file->fdinfo, "eventfd-count"));
	if (begins_with(file->link, "/memfd:"))
		assert_true(S_ISREG(file->stat.st_mode));
	assert_non_null(description->ops);
}

static void test_what_is_known_of_a_descriptor_is_of_one_file(void **state)
{
	const struct carry_options options = {0};
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		be_restless();
	auto_fd int pidfd = procfs_open_pid(pid);
	const struct open_task task = {.pid = pid, .pidfd = pidfd};
	for (int i = 0; i < LOOKS; i++) {
		auto_file_table struct file_table *table = NULL;

		assert_ok(file_table_read(&task, 1, NULL, &options, &table));
		for (size_t n = 0; n < table->count; n++)
			check_one(&table->descriptions[n], &table->list[n]);
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_known_of_a_descriptor_is_of_one_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
