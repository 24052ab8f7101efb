/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/shm.h>

#include "memory/areas.h"
#include "memory/sysv_attach.h"
#include "util/alloc.h"
#include "util/uapi.h"

enum { PAGE_BYTES = 4096 };

/* One call of shmat(2), as the program made it. */
struct attachment {
	uint64_t id, base; /* where the segment's first byte would be */
	bool is_read_only;
	uint64_t now; /* where it has been attached for now */
	uint64_t size_bytes;
	struct ranges left; /* owned: of now, what belongs nowhere */
};

struct attachments {
	struct process *task; /* borrowed */
	struct attachment *list;
	size_t count;
};

static void attachments_free(struct attachments *attachments)
{
	for (size_t i = 0; i < attachments->count; i++)
		ranges_free(&attachments->list[i].left);
	free(attachments->list);
}

static struct error *attach(struct process *task, struct attachment *attachment)
{
	auto_batch struct batch *batch = process_batch(task, 0);
	struct arg space = batch_space(batch, sizeof(struct shmid_ds));

	batch_about(batch, "System V shared memory", (uint32_t)attachment->id);
	struct arg at =
		batch_call(batch, shmat, val(attachment->id), val(0), val(attachment->is_read_only ? SHM_RDONLY : 0));
	batch_call(batch, shmctl, val(attachment->id), val(IPC_STAT), space);
	TRY(process_run(task, batch));
	attachment->now = (uint64_t)batch_result(batch, at);
	uint64_t size_bytes = ((const struct shmid_ds *)batch_output(batch, space))->shm_segsz;
	attachment->size_bytes = (size_bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
	ranges_append(&attachment->left, attachment->now, attachment->now + attachment->size_bytes);
	return NULL;
}

/* The one that an area is a part of. Borrowed until the next one. */
static struct error *find_or_attach(struct attachments *attachments, const VmaEntry *vma, struct attachment **ret_found)
{
	struct attachment wanted = {
		.id = vma->shmid,
		.base = vma->start - vma->pgoff,
		.is_read_only = vma->has_fdflags && (vma->fdflags & O_ACCMODE) == O_RDONLY,
	};

	for (size_t i = 0; i < attachments->count; i++) {
		struct attachment *known = &attachments->list[i];

		if (known->id == wanted.id && known->base == wanted.base &&
		    known->is_read_only == wanted.is_read_only) {
			*ret_found = known;
			return NULL;
		}
	}
	TRY(attach(attachments->task, &wanted));
	attachments->list = xrealloc(attachments->list, (attachments->count + 1) * sizeof(wanted));
	attachments->list[attachments->count] = wanted;
	*ret_found = &attachments->list[attachments->count++];
	return NULL;
}

/* mprotect(2) comes first: parts of other protections are areas of their own, also where they lie side by side. */
static struct error *move_part(struct attachments *attachments, const VmaEntry *vma, const struct range *part)
{
	auto_batch struct batch *batch = process_batch(attachments->task, 0);
	uint64_t size_bytes = part->end - part->start;
	auto_ranges struct ranges moved = {0};
	struct attachment *attachment;

	TRY(find_or_attach(attachments, vma, &attachment));
	uint64_t offset = vma->pgoff + (part->start - vma->start);
	uint64_t from = attachment->now + offset;
	if (offset > attachment->size_bytes || size_bytes > attachment->size_bytes - offset)
		return error_new(EBADMSG, "System V shared memory %" PRIu64 " has nothing at %#" PRIx64, vma->shmid,
		                 offset);
	ranges_append(&moved, from, from + size_bytes);
	struct ranges left = ranges_without(&attachment->left, &moved);
	uint64_t taken_bytes = ranges_bytes(&attachment->left) - ranges_bytes(&left);
	ranges_free(&attachment->left);
	attachment->left = left;
	if (taken_bytes != size_bytes)
		return error_new(EBADMSG, "System V shared memory %" PRIu64 " at %#" PRIx64, vma->shmid, vma->pgoff);
	batch_about(batch, "System V shared memory", (uint32_t)vma->shmid);
	/* Nothing is there that it would take away. */
	batch_call(batch, mmap, val(part->start), val(size_bytes), val(PROT_NONE),
	           val(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE), val(UINT64_MAX), val(0));
	batch_call(batch, mprotect, val(from), val(size_bytes), val(vma->prot));
	batch_call(batch, mremap, val(from), val(size_bytes), val(size_bytes), val(MREMAP_MAYMOVE | MREMAP_FIXED),
	           val(part->start));
	return process_run(attachments->task, batch);
}

static struct error *attach_area(struct attachments *attachments, const VmaEntry *vma, struct ranges *mapped)
{
	auto_ranges struct ranges wanted = {0};

	ranges_append(&wanted, vma->start, vma->end);
	auto_ranges struct ranges missing = ranges_without(&wanted, mapped);
	for (size_t i = 0; i < missing.count; i++)
		TRY(move_part(attachments, vma, &missing.list[i]), "area %#" PRIx64, vma->start);
	ranges_unite(mapped, &missing);
	return NULL;
}

static struct error *unmap_left(const struct attachments *attachments, const struct ranges *left)
{
	for (size_t i = 0; i < left->count; i++) {
		auto_batch struct batch *batch = process_batch(attachments->task, 0);

		batch_call(batch, munmap, val(left->list[i].start), val(left->list[i].end - left->list[i].start));
		TRY(process_run(attachments->task, batch));
	}
	return NULL;
}

struct error *sysv_attach(struct process *task, const MmEntry *mm, struct ranges *mapped)
{
	__attribute__((cleanup(attachments_free))) struct attachments attachments = {.task = task};

	for (size_t i = 0; i < mm->n_vmas; i++)
		if (mm->vmas[i]->status & AREA_SYSV)
			TRY(attach_area(&attachments, mm->vmas[i], mapped));
	for (size_t i = 0; i < attachments.count; i++)
		TRY(unmap_left(&attachments, &attachments.list[i].left));
	return NULL;
}
