/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "memory/areas.h"
#include "memory/build.h"
#include "memory/vdso.h"
#include "util/alloc.h"
#include "util/uapi.h"

enum {
	PAGE_BYTES = 4096,
	CALLS_PER_AREA = 8,
	MADV_NUMBERS = 64, /* bits of vma_entry.madv */
};

struct memory {
	struct process *task;     /* borrowed */
	struct procfs_range vdso; /* where it is by now */
	bool is_vdso_moved;
	struct ranges mapped; /* what is there by now */
};

struct memory *memory_new(struct process *task)
{
	struct memory *memory = xalloc(sizeof(*memory));

	memory->task = task;
	return memory;
}

void memory_free(struct memory *memory)
{
	if (!memory)
		return;
	ranges_free(&memory->mapped);
	free(memory);
}

/* ---- Mapping ---- */

static bool is_of_kernel(const VmaEntry *vma)
{
	return vma->status & (AREA_VSYSCALL | AREA_VDSO | AREA_VVAR);
}

static bool has_file(const VmaEntry *vma)
{
	return vma->status & (AREA_FILE_PRIVATE | AREA_FILE_SHARED);
}

static bool is_shared(const VmaEntry *vma)
{
	return vma->flags & MAP_SHARED;
}

/* Mapped by a descriptor, shared memory too. */
static bool is_mapped_by_fd(const VmaEntry *vma)
{
	return has_file(vma) || is_shared(vma);
}

/* What mmap(2) takes of the flags: MAP_LOCKED would fill the area with zeros first. */
static uint64_t map_flags(const VmaEntry *vma)
{
	const uint64_t sizes = (uint64_t)MAP_HUGE_MASK << MAP_HUGE_SHIFT;
	uint64_t flags = vma->flags & (MAP_SHARED | MAP_PRIVATE | MAP_GROWSDOWN | MAP_NORESERVE | MAP_HUGETLB);

	if (flags & MAP_HUGETLB)
		flags |= vma->flags & sizes;
	if (!is_mapped_by_fd(vma))
		flags |= MAP_ANONYMOUS;
	return flags | MAP_FIXED_NOREPLACE;
}

static struct error *check_area(const VmaEntry *vma)
{
	if (vma->status & (AREA_SYSV | AREA_AIO_RING))
		return error_new(ENOTSUP, "System V shared memory, or an AIO ring");
	return NULL;
}

/* The part of an area that isn't there yet. */
static struct error *map_part(struct memory *memory, const VmaEntry *vma, const struct range *part,
                              struct file_source *source)
{
	auto_batch struct batch *batch = process_batch(memory->task, 0);
	uint64_t offset = is_mapped_by_fd(vma) ? vma->pgoff + (part->start - vma->start) : 0;
	int fd = -1;

	if (is_mapped_by_fd(vma))
		TRY(source->open(source, vma, &fd));
	batch_call(batch, mmap, val(part->start), val(part->end - part->start), val(vma->prot), val(map_flags(vma)),
	           val((uint64_t)fd), val(offset));
	if (fd >= 0)
		batch_call(batch, close, val((uint64_t)fd));
	struct error *error = process_run(memory->task, batch);
	if (error && vma->flags & MAP_HUGETLB)
		error = error_hint(error, "huge pages are needed, %" PRIu64 " kB of them: sysctl vm.nr_hugepages",
		                   (part->end - part->start) / 1024);
	return error;
}

static struct error *protect_part(struct memory *memory, const VmaEntry *vma, const struct range *part)
{
	auto_batch struct batch *batch = process_batch(memory->task, 0);

	batch_call(batch, mprotect, val(part->start), val(part->end - part->start), val(vma->prot));
	return process_run(memory->task, batch);
}

static struct error *map_area(struct memory *memory, const VmaEntry *vma, struct file_source *source)
{
	auto_ranges struct ranges wanted = {0};

	ranges_append(&wanted, vma->start, vma->end);
	auto_ranges struct ranges missing = ranges_without(&wanted, &memory->mapped);
	auto_ranges struct ranges there = ranges_without(&wanted, &missing);
	for (size_t i = 0; i < missing.count; i++)
		TRY(map_part(memory, vma, &missing.list[i], source));
	for (size_t i = 0; i < there.count; i++)
		TRY(protect_part(memory, vma, &there.list[i]));
	ranges_unite(&memory->mapped, &missing);
	return NULL;
}

struct error *memory_map(struct memory *memory, const MmEntry *mm, struct file_source *source)
{
	if (!memory->is_vdso_moved)
		TRY(vdso_move(memory->task, mm, &memory->vdso));
	memory->is_vdso_moved = true;
	for (size_t i = 0; i < mm->n_vmas; i++) {
		const VmaEntry *vma = mm->vmas[i];

		if (is_of_kernel(vma))
			continue;
		struct error *error = check_area(vma);
		if (!error)
			error = map_area(memory, vma, source);
		TRY(error, "area %#" PRIx64 "-%#" PRIx64, vma->start, vma->end);
	}
	return NULL;
}

struct error *memory_unmap(struct memory *memory, const struct ranges *gone)
{
	for (size_t i = 0; i < gone->count; i++) {
		auto_batch struct batch *batch = process_batch(memory->task, 0);

		batch_call(batch, munmap, val(gone->list[i].start), val(gone->list[i].end - gone->list[i].start));
		TRY(process_run(memory->task, batch));
	}
	struct ranges left = ranges_without(&memory->mapped, gone);
	ranges_free(&memory->mapped);
	memory->mapped = left;
	return NULL;
}

/* ---- Filling ---- */

/* Whatever the protection: FOLL_FORCE. */
static struct error *force(const struct memory *memory, uint64_t address, const void *bytes, size_t size_bytes)
{
	for (size_t done = 0; done < size_bytes;) {
		ssize_t n = pwrite(memory->task->mem_fd, (const char *)bytes + done, size_bytes - done,
		                   (off_t)(address + done));

		if (n <= 0)
			return error_new(n < 0 ? errno : EIO, "write of %zu bytes to %#" PRIx64 " in task %d",
			                 size_bytes, address, memory->task->pid);
		done += (size_t)n;
	}
	return NULL;
}

struct error *memory_fill(struct memory *memory, uint64_t address, const void *bytes, size_t page_count)
{
	size_t size_bytes = page_count * PAGE_BYTES;
	const struct iovec here = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size_bytes};
	const struct iovec there = {.iov_base = (void *)(uintptr_t)address, .iov_len = size_bytes};

	if (address >= memory->vdso.start && address < memory->vdso.end)
		return vdso_compare(memory->task, &memory->vdso, address, bytes, size_bytes);
	ssize_t n = process_vm_writev(memory->task->pid, &here, 1, &there, 1, 0);
	if (n == (ssize_t)size_bytes)
		return NULL;
	size_t done = n > 0 ? (size_t)n : 0;
	return force(memory, address + done, (const char *)bytes + done, size_bytes - done);
}

static struct error *fill_with_zeros(struct memory *memory, uint64_t address, size_t page_count)
{
	static const char zeros[PAGE_BYTES];

	for (size_t i = 0; i < page_count; i++)
		TRY(memory_fill(memory, address + i * PAGE_BYTES, zeros, 1));
	return NULL;
}

struct error *memory_drop(struct memory *memory, uint64_t address, size_t page_count)
{
	auto_batch struct batch *batch = process_batch(memory->task, 0);
	struct arg drop = batch_call(batch, madvise, val(address), val(page_count * PAGE_BYTES), val(MADV_DONTNEED));

	batch_may_fail(batch, drop);
	TRY(process_run(memory->task, batch));
	if (batch_result(batch, drop) == 0)
		return NULL;
	/* A part of a huge page, or in a locked area: madvise(2). */
	return fill_with_zeros(memory, address, page_count);
}

/* ---- The end ---- */

static void append_advice(struct batch *batch, const VmaEntry *vma)
{
	struct arg start = val(vma->start);
	struct arg size = val(vma->end - vma->start);

	for (uint64_t n = 0; vma->has_madv && n < MADV_NUMBERS; n++)
		if (vma->madv & (UINT64_C(1) << n))
			batch_call(batch, madvise, start, size, val(n));
	if (vma->status & AREA_GUARD)
		batch_call(batch, madvise, start, size, val(UAPI_MADV_GUARD_INSTALL));
	if (vma->flags & MAP_LOCKED)
		batch_call(batch, mlock2, start, size, val(vma->flags & MAP_NONBLOCK ? MLOCK_ONFAULT : 0));
}

static struct error *finish_areas(struct memory *memory, const MmEntry *mm)
{
	auto_batch struct batch *batch = process_batch(memory->task, 0);

	for (size_t i = 0; i < mm->n_vmas; i++) {
		if (is_of_kernel(mm->vmas[i]))
			continue;
		append_advice(batch, mm->vmas[i]);
		if (batch_room(batch) < MADV_NUMBERS + CALLS_PER_AREA) {
			TRY(process_run(memory->task, batch));
			batch_free(batch);
			batch = process_batch(memory->task, 0);
		}
	}
	return process_run(memory->task, batch);
}

/* prctl(2), PR_SET_MM_MAP */
struct error *memory_finish(struct memory *memory, const MmEntry *mm, int exe_fd_in_task)
{
	auto_batch struct batch *batch = process_batch(memory->task, 0);
	struct arg auxv = batch_bytes(batch, mm->mm_saved_auxv, mm->n_mm_saved_auxv * sizeof(uint64_t));
	const struct prctl_mm_map map = {
		.start_code = mm->mm_start_code,
		.end_code = mm->mm_end_code,
		.start_data = mm->mm_start_data,
		.end_data = mm->mm_end_data,
		.start_brk = mm->mm_start_brk,
		.brk = mm->mm_brk,
		.start_stack = mm->mm_start_stack,
		.arg_start = mm->mm_arg_start,
		.arg_end = mm->mm_arg_end,
		.env_start = mm->mm_env_start,
		.env_end = mm->mm_env_end,
		.auxv = (__typeof__(map.auxv))(uintptr_t)auxv.value,
		.auxv_size = (uint32_t)(mm->n_mm_saved_auxv * sizeof(uint64_t)),
		.exe_fd = (uint32_t)exe_fd_in_task,
	};

	TRY(finish_areas(memory, mm));
	batch_about(batch, "heap, stack and arguments of task", (uint32_t)memory->task->pid);
	batch_call(batch, prctl, val(PR_SET_MM), val(PR_SET_MM_MAP), batch_bytes(batch, &map, sizeof(map)),
	           val(sizeof(map)), val(0));
	if (exe_fd_in_task >= 0)
		batch_call(batch, close, val((uint64_t)exe_fd_in_task));
	return process_run(memory->task, batch);
}
