/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/save/program_id.h"
#include "util/alloc.h"
#include "util/own.h"
#include "util/procfs.h"

static uint64_t find_random(pid_t pid)
{
	auto_free char *auxv = NULL;
	size_t size_bytes;

	if (procfs_read(pid, "auxv", &auxv, &size_bytes) < 0)
		return 0;
	for (size_t at = 0; at + sizeof(Elf64_auxv_t) <= size_bytes; at += sizeof(Elf64_auxv_t)) {
		Elf64_auxv_t entry;

		memcpy(&entry, auxv + at, sizeof(entry));
		if (entry.a_type == AT_RANDOM)
			return entry.a_un.a_val;
	}
	return 0;
}

static void read_random(const struct program_id *id, int mem_fd, uint8_t random[sizeof(id->random)])
{
	if (pread(mem_fd, random, sizeof(id->random), (off_t)id->random_address) != sizeof(id->random))
		memset(random, 0, sizeof(id->random));
}

void program_id_read(pid_t pid, struct program_id *ret_id)
{
	auto_free char *path = xformat("/proc/%d/mem", pid);
	auto_fd int mem_fd = open(path, O_RDONLY | O_CLOEXEC);

	*ret_id = (struct program_id){.random_address = find_random(pid)};
	(void)procfs_start_time(pid, &ret_id->start_time);
	if (ret_id->random_address)
		read_random(ret_id, mem_fd, ret_id->random);
}

bool program_id_is_current(const struct program_id *id, int mem_fd)
{
	uint8_t random[sizeof(id->random)];

	if (!id->random_address)
		return true;
	read_random(id, mem_fd, random);
	return memcmp(random, id->random, sizeof(random)) == 0;
}

bool program_id_is_same(const struct program_id *id, const struct program_id *other)
{
	return id->start_time == other->start_time && id->random_address == other->random_address &&
	       memcmp(id->random, other->random, sizeof(id->random)) == 0;
}
