/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Asking about many connections at once. Most of what one costs in the freeze is calls that ask, a hundred of them; and
 * as long as the program stands still, there are processors that have nothing to do.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "checkpoint/file_table_parts.h"
#include "util/alloc.h"

enum { WORTH_A_THREAD = 8 };

/* Shared by the threads: each takes the next file, and nobody else looks at it and its answers meanwhile. */
struct asking {
	struct file_table *table;
	size_t *indices; /* owned: of the files */
	size_t count;
	size_t next; /* atomic: the first of indices that nobody has taken */
};

/* What can't be read now is left to save(), which tells why. */
static void ask(const struct file_table *table, size_t index)
{
	struct open_file *file = &table->list[index];
	const struct file_ops *ops = table->descriptions[index].ops;
	auto_error struct error *error = ops->read(file, table->descriptions[index].answers);

	if (!error)
		file->answers = table->descriptions[index].answers;
}

static void *ask_some(void *data)
{
	struct asking *asking = data;

	for (;;) {
		size_t n = __atomic_fetch_add(&asking->next, 1, __ATOMIC_RELAXED);

		if (n >= asking->count)
			return NULL;
		ask(asking->table, asking->indices[n]);
	}
}

/* Without another thread this one does it all. Signals are for this one. */
static void ask_all(struct asking *asking)
{
	pthread_t other;
	sigset_t all;
	sigset_t before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bool has_other = pthread_create(&other, NULL, ask_some, asking) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	ask_some(asking);
	if (has_other)
		pthread_join(other, NULL);
}

struct error *file_table_ask(struct file_table *table)
{
	auto_free size_t *indices = xalloc((table->count + 1) * sizeof(*indices));
	struct asking asking = {.table = table, .indices = indices};

	for (size_t i = 0; i < table->count; i++)
		if (file_table_needs_lock_at(table, i) && table->descriptions[i].ops->read)
			indices[asking.count++] = i;
	if (asking.count < WORTH_A_THREAD)
		return NULL;
	for (size_t n = 0; n < asking.count; n++) {
		struct description *description = &table->descriptions[indices[n]];
		int fd;

		TRY(open_file_borrow(&table->list[indices[n]], &fd));
		description->answers = xalloc(description->ops->answer_bytes);
	}
	ask_all(&asking);
	return NULL;
}

void file_table_forget_answers(struct file_table *table)
{
	for (size_t i = 0; i < table->count; i++) {
		struct description *description = &table->descriptions[i];

		if (!description->answers)
			continue;
		table->list[i].answers = NULL;
		description->ops->free_answers(description->answers);
		free(take(description->answers));
	}
}
