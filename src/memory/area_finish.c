/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "memory/area_finish.h"
#include "memory/areas.h"
#include "memory/policies.h"
#include "util/uapi.h"

enum {
	CALLS_PER_AREA = 8,   /* beside advice */
	MADV_NUMBERS = 64,    /* bits of vma_entry.madv */
	NAME_BYTES_MAX = 80,  /* PR_SET_VMA of prctl(2) */
	AREAS_PER_BATCH = 24, /* their names and policies have to fit in */
};

bool area_is_of_kernel(const VmaEntry *vma)
{
	return vma->status & (AREA_VSYSCALL | AREA_VDSO | AREA_VVAR);
}

const AreaExtraEntry *area_extra_of(const MemoryExtraEntry *extra, const VmaEntry *vma, size_t *next)
{
	while (extra && *next < extra->n_areas && extra->areas[*next]->start < vma->start)
		++*next;
	if (!extra || *next == extra->n_areas)
		return NULL;
	const AreaExtraEntry *found = extra->areas[*next];
	return found->start == vma->start && found->end == vma->end ? found : NULL;
}

static void append_extra(struct batch *batch, const VmaEntry *vma, const AreaExtraEntry *extra)
{
	if (extra->name && strlen(extra->name) < NAME_BYTES_MAX)
		batch_call(batch, prctl, val(UAPI_PR_SET_VMA), val(UAPI_PR_SET_VMA_ANON_NAME), val(vma->start),
		           val(vma->end - vma->start), batch_bytes(batch, extra->name, strlen(extra->name) + 1));
	if (extra->has_policy)
		policy_append(batch, vma->start, vma->end, extra->policy, extra->nodes, extra->n_nodes);
}

static void append_area(struct batch *batch, const VmaEntry *vma, const AreaExtraEntry *extra)
{
	struct arg start = val(vma->start);
	struct arg size = val(vma->end - vma->start);

	for (uint64_t n = 0; vma->has_madv && n < MADV_NUMBERS; n++)
		if (vma->madv & (UINT64_C(1) << n))
			batch_call(batch, madvise, start, size, val(n));
	if (extra)
		append_extra(batch, vma, extra);
	if (vma->status & AREA_GUARD)
		batch_call(batch, madvise, start, size, val(UAPI_MADV_GUARD_INSTALL));
	if (vma->flags & MAP_LOCKED)
		batch_call(batch, mlock2, start, size, val(vma->flags & MAP_NONBLOCK ? MLOCK_ONFAULT : 0));
}

/* Nothing can be said about a sealed area any more: mseal(2), Linux 6.10. */
static void append_seal(struct batch *batch, const VmaEntry *vma, const AreaExtraEntry *extra)
{
	if (extra && extra->sealed)
		batch_append(batch, "mseal", UAPI_SYS_MSEAL, 3,
		             (struct arg[]){val(vma->start), val(vma->end - vma->start), val(0)});
}

static struct error *each_area(struct process *task, const MmEntry *mm, const MemoryExtraEntry *extra,
                               void (*append)(struct batch *batch, const VmaEntry *vma, const AreaExtraEntry *extra))
{
	auto_batch struct batch *batch = process_batch(task, 0);
	size_t next = 0;
	size_t in_batch = 0;

	for (size_t i = 0; i < mm->n_vmas; i++) {
		const AreaExtraEntry *area_extra = area_extra_of(extra, mm->vmas[i], &next);

		if (area_is_of_kernel(mm->vmas[i]))
			continue;
		append(batch, mm->vmas[i], area_extra);
		in_batch += area_extra != NULL;
		if (batch_room(batch) >= MADV_NUMBERS + CALLS_PER_AREA && in_batch < AREAS_PER_BATCH)
			continue;
		TRY(process_run(task, batch));
		batch_free(batch);
		batch = process_batch(task, 0);
		in_batch = 0;
	}
	return process_run(task, batch);
}

struct error *areas_finish(struct process *task, const MmEntry *mm, const MemoryExtraEntry *extra)
{
	TRY(each_area(task, mm, extra, append_area));
	return each_area(task, mm, extra, append_seal);
}
