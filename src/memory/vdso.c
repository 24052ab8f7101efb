/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "memory/areas.h"
#include "memory/vdso.h"
#include "util/alloc.h"

enum { PARTS_MAX = 8, CODE_BYTES_MAX = 32768 };
/* Between where the kernel put them and where they go, since the two may overlap. Far from all programs and stubs. */
static const uint64_t waypoint = UINT64_C(0x510000000000);

struct part {
	uint64_t start, end;
	bool is_code;
};

struct parts {
	struct part list[PARTS_MAX];
	size_t count;
};

static void add(struct parts *parts, const VmaEntry *vma)
{
	if (!(vma->status & (AREA_VDSO | AREA_VVAR)) || parts->count == PARTS_MAX)
		return;
	parts->list[parts->count++] = (struct part){
		.start = vma->start,
		.end = vma->end,
		.is_code = vma->status & AREA_VDSO,
	};
}

static struct error *another_kernel(void)
{
	return error_hint(error_new(ENOTSUP, "the program runs with the vDSO of another kernel build"),
	                  "restore it on a host with the same kernel");
}

static struct error *check_parts(const struct parts *here, const struct parts *wanted)
{
	if (here->count != wanted->count)
		return another_kernel();
	for (size_t i = 0; i < here->count; i++) {
		const struct part *a = &here->list[i];
		const struct part *b = &wanted->list[i];

		if (a->is_code != b->is_code || a->end - a->start != b->end - b->start)
			return another_kernel();
	}
	return NULL;
}

struct error *vdso_hash(pid_t pid, const struct areas *areas, uint64_t *ret_hash)
{
	auto_free char *path = xformat("/proc/%d/mem", pid);
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return error_new(errno, "open(%s)", path);
	*ret_hash = 0;
	for (size_t i = 0; i < areas->count; i++) {
		const VmaEntry *vma = &areas->list[i].entry;
		uint8_t code[CODE_BYTES_MAX];
		size_t size_bytes = vma->end - vma->start - ARCH_TRAMPOLINE_BYTES;

		if (!(vma->status & AREA_VDSO))
			continue;
		if (size_bytes > sizeof(code) || pread(fd, code, size_bytes, (off_t)vma->start) != (ssize_t)size_bytes)
			return error_new(EIO, "read the vDSO of process %d", pid);
		*ret_hash = XXH3_64bits(code, size_bytes);
	}
	return NULL;
}

static struct error *check_code(pid_t pid, const struct areas *here, const MemoryExtraEntry *extra)
{
	uint64_t hash = 0;

	if (!extra || !extra->has_vdso_hash)
		return NULL;
	TRY(vdso_hash(pid, here, &hash));
	return hash == extra->vdso_hash ? NULL : another_kernel();
}

static uint64_t waypoint_of(const struct part *part)
{
	return waypoint + (part->start & UINT32_MAX);
}

static void append_move(struct batch *batch, uint64_t from, uint64_t size_bytes, uint64_t to)
{
	batch_call(batch, mremap, val(from), val(size_bytes), val(size_bytes), val(MREMAP_MAYMOVE | MREMAP_FIXED),
	           val(to));
}

struct error *vdso_move(struct process *task, const MmEntry *mm, const MemoryExtraEntry *extra,
                        struct procfs_range *ret_vdso)
{
	auto_areas struct areas areas = {0};
	auto_batch struct batch *batch = process_batch(task, 0);
	struct parts here = {0};
	struct parts wanted = {0};

	TRY(areas_read(task->pid, &areas));
	for (size_t i = 0; i < areas.count; i++)
		add(&here, &areas.list[i].entry);
	for (size_t i = 0; i < mm->n_vmas; i++)
		add(&wanted, mm->vmas[i]);
	TRY(check_parts(&here, &wanted));
	TRY(check_code(task->pid, &areas, extra));
	for (size_t i = 0; i < here.count; i++)
		append_move(batch, here.list[i].start, here.list[i].end - here.list[i].start,
		            waypoint_of(&here.list[i]));
	for (size_t i = 0; i < here.count; i++) {
		const struct part *part = &wanted.list[i];

		append_move(batch, waypoint_of(&here.list[i]), part->end - part->start, part->start);
		if (part->is_code)
			*ret_vdso = (struct procfs_range){.start = part->start, .end = part->end};
	}
	TRY(process_run(task, batch), "vDSO");
	task->slot.address = 0; /* the trampoline's room has moved with it */
	return NULL;
}

struct error *vdso_compare(const struct process *task, const struct procfs_range *vdso, uint64_t address,
                           const void *bytes, size_t size_bytes)
{
	uint64_t end = vdso->end - ARCH_TRAMPOLINE_BYTES;
	size_t compared = address + size_bytes > end ? (size_t)(end - address) : size_bytes;
	auto_free void *ours = malloc(compared);

	if (!ours || pread(task->mem_fd, ours, compared, (off_t)address) != (ssize_t)compared)
		return error_new(errno, "vDSO at %#" PRIx64, address);
	return memcmp(ours, bytes, compared) == 0 ? NULL : another_kernel();
}
