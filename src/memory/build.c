/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory/area_finish.h"
#include "memory/areas.h"
#include "memory/build.h"
#include "memory/fill.h"
#include "memory/policies.h"
#include "memory/sysv_attach.h"
#include "memory/vdso.h"
#include "util/alloc.h"
#include "util/uapi.h"

enum { PAGE_BYTES = 4096 };

struct memory {
	struct process *task;  /* borrowed */
	struct vdso *vdso;     /* owned; NULL: nothing has been mapped yet */
	struct ranges mapped;  /* what is there by now */
	struct ranges huge;    /* of that: areas of huge pages */
	struct filler *filler; /* owned */
};

struct memory *memory_new(struct process *task)
{
	struct memory *memory = xalloc(sizeof(*memory));

	memory->task = task;
	memory->filler = filler_new(task);
	return memory;
}

void memory_free(struct memory *memory)
{
	if (!memory)
		return;
	vdso_free(memory->vdso);
	filler_free(memory->filler);
	ranges_free(&memory->mapped);
	ranges_free(&memory->huge);
	free(memory);
}

/* ---- Mapping ---- */

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
static uint64_t map_flags(const VmaEntry *vma, const AreaExtraEntry *extra)
{
	const uint64_t sizes = (uint64_t)MAP_HUGE_MASK << MAP_HUGE_SHIFT;
	uint64_t flags = vma->flags & (MAP_SHARED | MAP_PRIVATE | MAP_GROWSDOWN | MAP_NORESERVE | MAP_HUGETLB);

	if (flags & MAP_HUGETLB)
		flags |= vma->flags & sizes;
	if (!is_mapped_by_fd(vma))
		flags |= MAP_ANONYMOUS;
	if (extra && extra->droppable)
		flags = UAPI_MAP_DROPPABLE | MAP_ANONYMOUS; /* a type of its own, beside private and shared */
	return flags | MAP_FIXED_NOREPLACE;
}

static struct error *check_area(const VmaEntry *vma)
{
	if (vma->status & AREA_AIO_RING)
		return error_new(ENOTSUP, "an AIO ring");
	return NULL;
}

/* All that the images say of an area. */
struct modelled {
	const VmaEntry *vma;
	const AreaExtraEntry *extra; /* NULL: nothing */
};

/* The part of an area that isn't there yet. */
static struct error *map_part(struct memory *memory, const struct modelled *modelled, const struct range *part,
                              struct file_source *source)
{
	const VmaEntry *vma = modelled->vma;
	const AreaExtraEntry *extra = modelled->extra;
	auto_batch struct batch *batch = process_batch(memory->task, 0);
	uint64_t offset = is_mapped_by_fd(vma) ? vma->pgoff + (part->start - vma->start) : 0;
	int fd = -1;

	if (is_mapped_by_fd(vma))
		TRY(source->open(source, vma, &fd));
	batch_call(batch, mmap, val(part->start), val(part->end - part->start), val(vma->prot),
	           val(map_flags(vma, extra)), val((uint64_t)fd), val(offset));
	if (fd >= 0)
		batch_call(batch, close, val((uint64_t)fd));
	/* Before there are pages, which are to be on the right nodes. */
	if (extra && extra->has_policy)
		policy_append(batch, part->start, part->end, extra->policy, extra->nodes, extra->n_nodes);
	struct error *error = process_run(memory->task, batch);
	if (!error && !is_mapped_by_fd(vma) && !(vma->flags & MAP_HUGETLB))
		filler_add(memory->filler, part->start, part->end);
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

static struct error *map_area(struct memory *memory, const struct modelled *modelled, struct file_source *source)
{
	const VmaEntry *vma = modelled->vma;
	auto_ranges struct ranges wanted = {0};

	ranges_append(&wanted, vma->start, vma->end);
	auto_ranges struct ranges missing = ranges_without(&wanted, &memory->mapped);
	auto_ranges struct ranges there = ranges_without(&wanted, &missing);
	for (size_t i = 0; i < missing.count; i++)
		TRY(map_part(memory, modelled, &missing.list[i], source));
	for (size_t i = 0; i < there.count; i++)
		TRY(protect_part(memory, vma, &there.list[i]));
	ranges_unite(&memory->mapped, &missing);
	return NULL;
}

/* Huge pages take room where only few pages are filled: they are for the program to have, when it runs. */
static struct error *begin(struct memory *memory)
{
	auto_batch struct batch *batch = process_batch(memory->task, 0);

	batch_may_fail(batch, batch_call(batch, prctl, val(PR_SET_THP_DISABLE), val(1), val(0), val(0), val(0)));
	return process_run(memory->task, batch);
}

static void note_huge(struct memory *memory, const MmEntry *mm)
{
	ranges_free(&memory->huge);
	for (size_t i = 0; i < mm->n_vmas; i++)
		if (mm->vmas[i]->flags & MAP_HUGETLB)
			ranges_append(&memory->huge, mm->vmas[i]->start, mm->vmas[i]->end);
}

struct error *memory_map(struct memory *memory, const MmEntry *mm, const MemoryExtraEntry *extra,
                         struct file_source *source)
{
	size_t next = 0;

	if (!memory->vdso) {
		TRY(begin(memory));
		TRY(vdso_begin(memory->task, mm, &memory->vdso));
	}
	note_huge(memory, mm);
	TRY(sysv_attach(memory->task, mm, &memory->mapped));
	for (size_t i = 0; i < mm->n_vmas; i++) {
		const VmaEntry *vma = mm->vmas[i];

		if (area_is_of_kernel(vma))
			continue;
		const struct modelled modelled = {.vma = vma, .extra = area_extra_of(extra, vma, &next)};
		struct error *error = check_area(vma);
		if (!error)
			error = map_area(memory, &modelled, source);
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

struct error *memory_fill(struct memory *memory, uint64_t address, const void *bytes, size_t page_count)
{
	if (vdso_has(memory->vdso, address))
		return vdso_fill(memory->vdso, address, bytes, page_count);
	return filler_write(memory->filler, address, bytes, page_count);
}

static struct error *fill_with_zeros(struct memory *memory, uint64_t address, size_t page_count)
{
	static const char zeros[PAGE_BYTES];

	for (size_t i = 0; i < page_count; i++)
		TRY(memory_fill(memory, address + i * PAGE_BYTES, zeros, 1));
	return NULL;
}

/* madvise(2) gives back whole huge pages only, and says nothing of the rest. */
static bool is_huge(const struct memory *memory, uint64_t address)
{
	for (size_t i = 0; i < memory->huge.count; i++)
		if (address >= memory->huge.list[i].start && address < memory->huge.list[i].end)
			return true;
	return false;
}

struct error *memory_drop(struct memory *memory, uint64_t address, size_t page_count)
{
	auto_batch struct batch *batch = process_batch(memory->task, 0);

	if (is_huge(memory, address))
		return fill_with_zeros(memory, address, page_count);
	batch_call(batch, madvise, val(address), val(page_count * PAGE_BYTES), val(MADV_DONTNEED));
	return process_run(memory->task, batch);
}

/* ---- The end ---- */

/* prctl(2), PR_SET_MM_MAP */
struct error *memory_finish(struct memory *memory, const MmEntry *mm, const MemoryExtraEntry *extra, int exe_fd_in_task)
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

	filler_end(memory->filler);
	TRY(vdso_finish(memory->vdso), "vDSO");
	TRY(areas_finish(memory->task, mm, extra));
	batch_about(batch, "heap, stack and arguments of task", (uint32_t)memory->task->pid);
	batch_call(batch, prctl, val(PR_SET_MM), val(PR_SET_MM_MAP), batch_bytes(batch, &map, sizeof(map)),
	           val(sizeof(map)), val(0));
	if (exe_fd_in_task >= 0)
		batch_call(batch, close, val((uint64_t)exe_fd_in_task));
	/* Nothing is mapped any more from here on. */
	if (extra && extra->lock_future)
		batch_call(batch, mlockall, val(extra->lock_future & (MCL_FUTURE | MCL_ONFAULT)));
	return process_run(memory->task, batch);
}
