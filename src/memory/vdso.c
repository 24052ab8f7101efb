/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory/areas.h"
#include "memory/vdso.h"
#include "memory/vdso_code.h"
#include "util/alloc.h"

enum { PARTS_MAX = 8, CODE_BYTES_MAX = 65536, PAGE_BYTES = 4096, CODE_PAGES_MAX = CODE_BYTES_MAX / PAGE_BYTES };
/* Where the kernel's are out of the way: far from all programs and stubs, unless a program was restored like that before. */
static const uint64_t aside_first = UINT64_C(0x510000000000);
static const uint64_t aside_end = UINT64_C(0x540000000000);
static const uint64_t aside_step = UINT64_C(1) << 30;

struct part {
	uint64_t start, end;
	bool is_code;
};

struct parts {
	struct part list[PARTS_MAX]; /* ascending */
	size_t count;
};

struct vdso {
	struct process *task; /* borrowed */
	struct parts kernel;
	struct parts program;
	uint8_t code[CODE_BYTES_MAX]; /* of the program, as far as it has come */
	bool has_come[CODE_PAGES_MAX];
	bool is_fixed; /* the kernel's can't be moved */
};

static struct error *add(struct parts *parts, const VmaEntry *vma)
{
	if (!(vma->status & (AREA_VDSO | AREA_VVAR)))
		return NULL;
	if (parts->count == PARTS_MAX)
		return error_new(EBADMSG, "a vDSO of more than %d areas", PARTS_MAX);
	if (vma->end <= vma->start || vma->end - vma->start > CODE_BYTES_MAX)
		return error_new(EBADMSG, "vDSO at %#" PRIx64 "-%#" PRIx64, vma->start, vma->end);
	parts->list[parts->count++] = (struct part){
		.start = vma->start,
		.end = vma->end,
		.is_code = vma->status & AREA_VDSO,
	};
	return NULL;
}

/* Empty: there is none. */
static struct part code_of(const struct parts *parts)
{
	for (size_t i = 0; i < parts->count; i++)
		if (parts->list[i].is_code)
			return parts->list[i];
	return (struct part){0};
}

static size_t part_bytes(const struct part *part)
{
	return part->end - part->start;
}

static bool is_free(const MmEntry *mm, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < mm->n_vmas; i++)
		if (mm->vmas[i]->start < end && mm->vmas[i]->end > start)
			return false;
	return true;
}

static void append_move(struct batch *batch, struct part *part, uint64_t to)
{
	size_t size_bytes = part_bytes(part);

	batch_call(batch, mremap, val(part->start), val(size_bytes), val(size_bytes),
	           val(MREMAP_MAYMOVE | MREMAP_FIXED), val(to));
	part->start = to;
	part->end = to + size_bytes;
}

static uint64_t parts_bytes(const struct parts *parts)
{
	return parts->list[parts->count - 1].end - parts->list[0].start;
}

/* Their distance from each other stays: the code finds its data by it. */
static struct error *move_to(struct process *task, struct parts *parts, uint64_t to)
{
	auto_batch struct batch *batch = process_batch(task, 0);
	struct parts moved = *parts;

	for (size_t i = 0; i < moved.count; i++)
		append_move(batch, &moved.list[i], to + (moved.list[i].start - parts->list[0].start));
	TRY(process_run(task, batch));
	*parts = moved;
	return NULL;
}

/* Where a kernel seals them (CONFIG_MSEAL_SYSTEM_MAPPINGS, Linux 6.16), they stay where it has put them, by chance. */
static struct error *move_aside(struct vdso *vdso, const MmEntry *mm)
{
	struct parts *kernel = &vdso->kernel;
	uint64_t to = aside_first;

	if (kernel->count == 0)
		return NULL;
	uint64_t size_bytes = parts_bytes(kernel);
	while (to < aside_end && !is_free(mm, to, to + size_bytes))
		to += aside_step;
	if (to >= aside_end)
		return error_new(ENOMEM, "no room of %" PRIu64 " bytes between the areas of the program", size_bytes);
	/* Of a child whose parent has its own there already. */
	if (kernel->list[0].start == to)
		return NULL;
	struct error *error = move_to(vdso->task, kernel, to);
	vdso->is_fixed = error && error_errnum(error) == EPERM;
	if (!vdso->is_fixed)
		return error;
	error_free(error);
	if (is_free(mm, kernel->list[0].start, kernel->list[0].start + size_bytes))
		return NULL;
	return error_hint(error_new(ENOTSUP, "this kernel has sealed its own where the program has memory"),
	                  "try again");
}

struct error *vdso_begin(struct process *task, const MmEntry *mm, struct vdso **ret_vdso)
{
	auto_areas struct areas areas = {0};
	auto_vdso struct vdso *vdso = xalloc(sizeof(*vdso));

	vdso->task = task;
	TRY(areas_read(task->pid, &areas));
	for (size_t i = 0; i < areas.count; i++)
		TRY(add(&vdso->kernel, &areas.list[i].entry));
	for (size_t i = 0; i < mm->n_vmas; i++)
		TRY(add(&vdso->program, mm->vmas[i]));
	TRY(move_aside(vdso, mm), "vDSO");
	task->slot.address = 0; /* the trampoline's room has moved with it */
	*ret_vdso = take(vdso);
	return NULL;
}

void vdso_free(struct vdso *vdso)
{
	free(vdso);
}

bool vdso_has(const struct vdso *vdso, uint64_t address)
{
	struct part code = vdso ? code_of(&vdso->program) : (struct part){0};

	return address >= code.start && address < code.end;
}

struct error *vdso_fill(struct vdso *vdso, uint64_t address, const void *bytes, size_t page_count)
{
	struct part code = code_of(&vdso->program);
	uint64_t first = (address - code.start) / PAGE_BYTES;

	if (page_count > (code.end - address) / PAGE_BYTES)
		return error_new(EBADMSG, "%zu pages at %#" PRIx64 " in the vDSO", page_count, address);
	memcpy(vdso->code + (address - code.start), bytes, page_count * PAGE_BYTES);
	for (size_t i = 0; i < page_count; i++)
		vdso->has_come[first + i] = true;
	return NULL;
}

/* ---- The end ---- */

static bool is_same_shape(const struct vdso *vdso)
{
	if (vdso->kernel.count != vdso->program.count)
		return false;
	for (size_t i = 0; i < vdso->kernel.count; i++) {
		const struct part *a = &vdso->kernel.list[i];
		const struct part *b = &vdso->program.list[i];

		if (a->is_code != b->is_code || part_bytes(a) != part_bytes(b))
			return false;
	}
	return true;
}

/* All but the room at its end, which remote calls use. */
static bool is_same(const struct vdso *vdso, const struct vdso_code *kernel)
{
	return is_same_shape(vdso) &&
	       memcmp(kernel->bytes, vdso->code, kernel->size_bytes - ARCH_TRAMPOLINE_BYTES) == 0;
}

static struct error *move_into_place(struct vdso *vdso)
{
	auto_batch struct batch *batch = process_batch(vdso->task, 0);

	for (size_t i = 0; i < vdso->kernel.count; i++)
		append_move(batch, &vdso->kernel.list[i], vdso->program.list[i].start);
	vdso->task->slot.address = 0;
	return process_run(vdso->task, batch);
}

static struct error *map_memory(const struct vdso *vdso)
{
	auto_batch struct batch *batch = process_batch(vdso->task, 0);

	for (size_t i = 0; i < vdso->program.count; i++) {
		const struct part *part = &vdso->program.list[i];

		batch_call(batch, mmap, val(part->start), val(part_bytes(part)),
		           val(part->is_code ? PROT_READ | PROT_EXEC : PROT_READ),
		           val(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE), val((uint64_t)-1), val(0));
	}
	return process_run(vdso->task, batch);
}

static struct error *put_jumps(struct vdso *vdso, const struct vdso_code *kernel)
{
	struct part part = code_of(&vdso->program);
	const struct vdso_code program = {
		.bytes = vdso->code,
		.size_bytes = part_bytes(&part),
		.address = part.start,
	};

	TRY(vdso_redirect(&program, kernel));
	TRY(map_memory(vdso));
	/* Though it isn't writable: FOLL_FORCE, proc_pid_mem(5). */
	if (pwrite(vdso->task->mem_fd, program.bytes, program.size_bytes, (off_t)part.start) !=
	    (ssize_t)program.size_bytes)
		return error_new(errno, "write to %#" PRIx64, part.start);
	return NULL;
}

static bool has_come(const struct vdso *vdso, const struct part *code)
{
	for (size_t i = 0; i < part_bytes(code) / PAGE_BYTES; i++)
		if (!vdso->has_come[i])
			return false;
	return true;
}

struct error *vdso_finish(struct vdso *vdso)
{
	struct part here = code_of(&vdso->kernel);
	struct part there = code_of(&vdso->program);
	uint8_t bytes[CODE_BYTES_MAX];
	const struct vdso_code kernel = {.bytes = bytes, .size_bytes = part_bytes(&here), .address = here.start};

	if (part_bytes(&there) == 0) /* a program that has unmapped it */
		return NULL;
	if (!has_come(vdso, &there))
		return error_new(EBADMSG, "the images lack a page of the program's");
	if (part_bytes(&here) == 0)
		return error_new(ENOTSUP, "this kernel has none");
	if (pread(vdso->task->mem_fd, bytes, kernel.size_bytes, (off_t)here.start) != (ssize_t)kernel.size_bytes)
		return error_new(errno, "read from %#" PRIx64, here.start);
	return is_same(vdso, &kernel) && !vdso->is_fixed ? move_into_place(vdso) : put_jumps(vdso, &kernel);
}
