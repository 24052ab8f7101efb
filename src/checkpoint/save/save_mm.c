/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/save/save_mm.h"
#include "mm.pb-c.h"
#include "util/alloc.h"
#include "util/procfs.h"

enum { AUXV_BYTES_MAX = 4096 };

/* Fields of proc_pid_stat(5). */
static const struct {
	unsigned field;
	size_t offset;
} stat_fields[] = {
	{26, offsetof(MmEntry, mm_start_code)},  {27, offsetof(MmEntry, mm_end_code)},
	{28, offsetof(MmEntry, mm_start_stack)}, {45, offsetof(MmEntry, mm_start_data)},
	{46, offsetof(MmEntry, mm_end_data)},    {47, offsetof(MmEntry, mm_start_brk)},
	{48, offsetof(MmEntry, mm_arg_start)},   {49, offsetof(MmEntry, mm_arg_end)},
	{50, offsetof(MmEntry, mm_env_start)},   {51, offsetof(MmEntry, mm_env_end)},
};

static struct error *read_limits(pid_t pid, MmEntry *mm)
{
	auto_free char *stat = NULL;
	int r = procfs_read(pid, "stat", &stat, NULL);

	if (r < 0)
		return error_new(-r, "stat of process %d", pid);
	for (size_t i = 0; i < sizeof(stat_fields) / sizeof(stat_fields[0]); i++) {
		uint64_t value;

		r = procfs_field(stat, stat_fields[i].field, &value);
		if (r < 0)
			return error_new(-r, "field %u of stat of process %d", stat_fields[i].field, pid);
		memcpy((char *)mm + stat_fields[i].offset, &value, sizeof(value));
	}
	return NULL;
}

static struct error *read_auxv(pid_t pid, char **ret_auxv, MmEntry *mm)
{
	size_t size_bytes;
	int r = procfs_read(pid, "auxv", ret_auxv, &size_bytes);

	if (r < 0)
		return error_new(-r, "auxv of process %d", pid);
	if (size_bytes > AUXV_BYTES_MAX || size_bytes % sizeof(uint64_t))
		return error_new(EPROTO, "auxv of %zu bytes", size_bytes);
	mm->n_mm_saved_auxv = size_bytes / sizeof(uint64_t);
	mm->mm_saved_auxv = (uint64_t *)(void *)*ret_auxv;
	return NULL;
}

/* What an area's shmid says depends on what it maps: a file's id, or which shared memory it is. */
static struct error *fill_area(const struct save_mm *save, const struct area *area, VmaEntry *vma)
{
	uint32_t id;

	*vma = area->entry;
	if (vma->status & AREA_ANON_SHARED)
		vma->shmid = area->inode;
	if (!(vma->status & (AREA_FILE_PRIVATE | AREA_FILE_SHARED)))
		return NULL;
	TRY(mapped_files_put_area(save->mapped, save->pid, area, save->all, save->store, &id));
	vma->shmid = id;
	return NULL;
}

struct error *save_mm(const struct save_mm *save)
{
	MmEntry mm = MM_ENTRY__INIT;
	size_t count = save->areas->count;
	auto_free VmaEntry *vmas = xalloc(count * sizeof(*vmas));
	auto_free VmaEntry **pointers = xalloc(count * sizeof(*pointers));
	auto_free char *auxv = NULL;

	for (size_t i = 0; i < count; i++) {
		TRY(fill_area(save, &save->areas->list[i], &vmas[i]));
		pointers[i] = &vmas[i];
	}
	mm.n_vmas = count;
	mm.vmas = pointers;
	TRY(read_limits(save->pid, &mm));
	TRY(read_auxv(save->pid, &auxv, &mm));
	mm.mm_brk = save->answers.brk_address;
	mm.has_dumpable = true;
	mm.dumpable = save->answers.dumpable;
	mm.has_thp_disabled = true;
	mm.thp_disabled = save->answers.is_thp_disabled;
	TRY(mapped_files_put_link(save->mapped, save->pid, "exe", save->all, save->store, &mm.exe_file_id));
	image_put(save->store, IMAGE_MM, (uint64_t)save->own_pid, &mm.base);
	return NULL;
}
