/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a program needs that is restored from images: needs.h.
 *
 * Not here: what build_preflight() looks for in any case (PIDs of threads, files, services, limits that are too low), and
 * addresses, which may come when the sockets are there, so that none is where they aren't.
 */
#include "checkpoint/model.h"
#include "checkpoint/needs.h"
#include "checkpoint/needs_sysv.h"
#include "image/pages.h"
#include "objects/standard_streams.h"
#include "util/alloc.h"

static struct error *count_memory(int dir_fd, pid_t pid, GodwitNeeds *needs)
{
	auto_pages_reader struct pages_reader *reader = NULL;
	struct page_run run;

	TRY(pages_reader_open(dir_fd, pid, &reader));
	while (pages_reader_next(reader, &run))
		needs->memory_bytes += run.page_count * PAGE_BYTES;
	return NULL;
}

/* Images of others don't say; nor do those of early versions. */
static struct error *take_processor(const struct image_store *store, GodwitNeeds *needs)
{
	ProtobufCMessage *message;

	if (image_count(store, IMAGE_GODWIT_PROCESSOR, 0) == 0)
		return NULL;
	TRY(image_get(store, IMAGE_GODWIT_PROCESSOR, 0, 0, &message));
	GodwitProcessor *processor = (GodwitProcessor *)message;
	needs->cpu_model = take(processor->model);
	needs->cpu_flags = take(processor->flags);
	needs->n_cpu_flags = processor->n_flags;
	processor->n_flags = 0;
	protobuf_c_message_free_unpacked(message, NULL);
	return NULL;
}

/* What the processes need, each for itself. */
static struct error *add_task(const struct needs_images *request, const struct tree *tree, size_t task,
                              GodwitNeeds *needs)
{
	auto_model struct model *model = NULL;

	TRY(model_read(request->store, tree, task, &model));
	for (size_t i = 0; i < model->pstree->n_threads; i++)
		if (model->pstree->threads[i] > needs->highest_tid)
			needs->highest_tid = model->pstree->threads[i];
	return model->mm ? count_memory(request->images_dir_fd, model->pid, needs) : NULL;
}

struct error *needs_of_images(const struct needs_images *request, GodwitNeeds **ret_needs)
{
	auto_needs GodwitNeeds *needs = xalloc(sizeof(*needs));
	auto_tree struct tree tree = {0};

	godwit_needs__init(needs);
	TRY(model_read_tree(request->store, &tree));
	const struct tree_task *root = &tree.tasks[0];
	needs->pid = (uint32_t)root->pid;
	bool is_detached = standard_streams_detach(request->store, request->carry);
	bool is_new = is_detached || request->carry->shell_job;
	needs->session = is_new ? 0 : (uint32_t)root->session;
	needs->group = is_new ? 0 : (uint32_t)root->group;
	for (size_t i = 0; i < tree.count; i++)
		TRY(add_task(request, &tree, i, needs));
	needs->cpu_caps = request->cpu_caps;
	needs->has_new_pids = true;
	needs->new_pids = request->new_pids;
	TRY(take_processor(request->store, needs));
	TRY(needs_sysv_add(request->store, needs));
	*ret_needs = take(needs);
	return NULL;
}
