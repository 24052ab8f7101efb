/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Checking, locking, holding and saving the files of a table. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "checkpoint/file_table_parts.h"
#include "checkpoint/save/refusal.h"
#include "objects/file_locks.h"
#include "objects/outlet.h"
#include "objects/standard_streams.h"
#include "util/alloc.h"

/* The program runs: it may have closed the descriptor, and have opened something else there, since the table was read. */
static bool is_still(const struct open_file *file)
{
	return file_table_is_link(file->pid, file->fd, file->link);
}

static struct error *check_one(const struct file_table *table, size_t index)
{
	const struct open_file *file = &table->list[index];
	const struct file_ops *ops = table->descriptions[index].ops;

	if (ops) {
		TRY(file_table_about(file_locks_check(file), file));
		return ops->check ? file_table_about(ops->check(file), file) : NULL;
	}
	return file_table_about_task(refuse_file(file), file);
}

/* ---- Standard streams ---- */

static bool is_stdio(const struct open_file *file)
{
	return file->fd <= STDERR_FILENO && !file_table_is_in_flight(file);
}

static bool can_go_along(const struct file_table *table, size_t index)
{
	const struct file_ops *ops = table->descriptions[index].ops;
	auto_error struct error *error = check_one(table, index);

	return !error && !(ops->stays && ops->stays(&table->list[index]));
}

/* From here on it is of a kind that writes something else into the images: look_at_files() keeps that. */
void file_table_replace_stdio(struct file_table *table)
{
	for (size_t i = 0; i < table->count && table->options->stdio != STDIO_KEEP; i++) {
		struct open_file *file = &table->list[i];
		const struct file_ops *ops = is_stdio(file) ? stdio_ops_for(file) : NULL;

		if (!ops || can_go_along(table, i))
			continue;
		table->descriptions[i].ops = ops;
		file->becomes_file = ops->type == FD_TYPES__REG;
	}
}

static struct error *hint_stdio(struct error *error, const struct file_table *table, const struct open_file *file)
{
	return is_stdio(file) && table->options->stdio == STDIO_KEEP
	               ? error_hint(error, "--stdio null gives it /dev/null in the place of that, --stdio FILE a file")
	               : error;
}

void file_table_check(const struct file_table *table, struct problems *problems)
{
	for (size_t i = 0; i < table->count; i++) {
		auto_error struct error *error = hint_stdio(check_one(table, i), table, &table->list[i]);

		if (error && is_still(&table->list[i]))
			problems_add(problems, take(error));
	}
}

bool file_table_needs_lock_at(const struct file_table *table, size_t index)
{
	struct description *description = &table->descriptions[index];
	const struct file_ops *ops = description->ops;

	if (!ops || !ops->needs_lock)
		return false;
	if (!description->is_lock_known)
		description->needs_lock = ops->needs_lock(&table->list[index]);
	description->is_lock_known = true;
	return description->needs_lock;
}

static bool needs_hold(const struct file_table *table, size_t index)
{
	const struct file_ops *ops = table->descriptions[index].ops;

	return ops && ops->needs_hold && ops->needs_hold(&table->list[index]);
}

/* Saved by file_table_save_held() and not before. One in flight is known only then. */
static bool is_late(const struct file_table *table, size_t index)
{
	return file_table_is_in_flight(&table->list[index]) || file_table_needs_lock_at(table, index) ||
	       (needs_hold(table, index) && !table->descriptions[index].ops->save_held);
}

bool file_table_needs_lock(const struct file_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		if (file_table_needs_lock_at(table, i))
			return true;
	return false;
}

struct error *file_table_unsent(const struct file_table *table, struct unsent *ret_unsent)
{
	*ret_unsent = (struct unsent){0};
	for (size_t i = 0; i < table->count; i++) {
		const struct file_ops *ops = table->descriptions[i].ops;

		if (ops && ops->unsent && (!ops->needs_lock || file_table_needs_lock_at(table, i)))
			TRY(file_table_about(ops->unsent(&table->list[i], ret_unsent), &table->list[i]));
	}
	return NULL;
}

struct error *file_table_flows(const struct file_table *table, struct flow **ret_flows, size_t *ret_count)
{
	auto_free struct flow *flows = xalloc((table->count + 1) * sizeof(*flows));
	size_t count = 0;

	for (size_t i = 0; i < table->count; i++)
		if (file_table_needs_lock_at(table, i))
			TRY(file_table_about(table->descriptions[i].ops->flow(&table->list[i], &flows[count++]),
			                     &table->list[i]));
	*ret_flows = take(flows);
	*ret_count = count;
	return NULL;
}

void file_table_outlets(const struct file_table *table,
                        void (*call)(const struct open_file *file, const struct outlet *outlet, void *data), void *data)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct file_ops *ops = table->descriptions[i].ops;
		struct outlet outlet = {0};

		if (!ops || !ops->outlet || !ops->outlet(&table->list[i], &outlet))
			continue;
		call(&table->list[i], &outlet, data);
		free(outlet.path);
	}
}

static struct error *hold_one(const struct file_table *table, size_t index, struct held_files *held)
{
	const struct file_ops *ops = table->descriptions[index].ops;
	struct held_file one = {.ops = ops, .id = table->list[index].id, .fd = -1};

	if (!ops->hold)
		return NULL;
	TRY(file_table_about(ops->hold(&table->list[index], &one.fd, &one.before), &table->list[index]));
	if (one.fd < 0)
		return NULL;
	held->list = xrealloc(held->list, (held->count + 1) * sizeof(*held->list));
	held->list[held->count++] = one;
	return NULL;
}

struct error *file_table_hold(const struct file_table *table, size_t from, size_t until, struct held_files *held)
{
	for (size_t i = from; i < until; i++)
		if (needs_hold(table, i))
			TRY(hold_one(table, i, held));
	return NULL;
}

struct error *file_table_hold_locked(const struct file_table *table, struct held_files *held)
{
	for (size_t i = 0; i < table->count; i++)
		if (file_table_needs_lock_at(table, i))
			TRY(hold_one(table, i, held));
	return NULL;
}

static struct error *save_one(const struct file_table *table, size_t index, struct image_store *store)
{
	const struct open_file *file = &table->list[index];
	const struct file_ops *ops = table->descriptions[index].ops;

	if (!ops)
		return file_table_about(error_new(ENOTSUP, "can't be carried"), file);
	return file_table_about(ops->save(file, store), file);
}

struct error *file_table_save(const struct file_table *table, struct image_store *store)
{
	for (size_t i = 0; i < table->number_count; i++) {
		const struct number *number = &table->numbers[i];
		const struct file_ops *ops = table->descriptions[number->index].ops;
		FdinfoEntry entry = FDINFO_ENTRY__INIT;

		entry.id = table->list[number->index].id;
		entry.flags = number->is_close_on_exec ? FD_CLOEXEC : 0;
		entry.type = ops ? ops->type : FD_TYPES__UND;
		entry.fd = (uint32_t)number->number.fd;
		image_put(store, IMAGE_FDINFO, table->open_files.tasks[number->number.task].files_id, &entry.base);
	}
	for (size_t i = 0; i < table->count; i++)
		if (!is_late(table, i))
			TRY(save_one(table, i, store));
	return file_locks_save(&table->open_files, store);
}

static struct error *save_rest_of(const struct file_table *table, const struct held_file *held,
                                  struct image_store *store)
{
	for (size_t i = 0; i < table->count; i++)
		if (table->list[i].id == held->id)
			return file_table_about(held->ops->save_held(&table->list[i], held->fd, store),
			                        &table->list[i]);
	return NULL;
}

struct error *file_table_save_held(const struct file_table *table, const struct held_files *held,
                                   struct image_store *store)
{
	for (size_t i = 0; i < table->count; i++)
		if (is_late(table, i))
			TRY(save_one(table, i, store));
	for (size_t i = 0; i < held->count; i++)
		if (held->list[i].ops->save_held)
			TRY(save_rest_of(table, &held->list[i], store));
	return NULL;
}

static bool is_listener(const struct file_table *table, size_t index)
{
	struct flow flow;
	auto_error struct error *error = table->descriptions[index].ops->flow(&table->list[index], &flow);

	return !error && flow.is_listener;
}

/* Content isn't looked for, and connections can't be read. */
static bool is_for_sketch(const struct file_table *table, size_t index)
{
	const struct file_ops *ops = table->descriptions[index].ops;

	if (!ops || file_table_is_in_flight(&table->list[index]))
		return false;
	if (ops->type == FD_TYPES__REG)
		return table->list[index].stat.st_nlink > 0;
	return ops->preflight && (!file_table_needs_lock_at(table, index) || is_listener(table, index));
}

void file_table_sketch(const struct file_table *table, struct image_store *store)
{
	for (size_t i = 0; i < table->count; i++)
		if (is_for_sketch(table, i))
			error_free(save_one(table, i, store));
}

struct open_files *file_table_open_files(struct file_table *table)
{
	return &table->open_files;
}

struct error *file_table_each(const struct file_table *table, FdTypes type,
                              struct error *(*call)(const struct open_file *file, void *data), void *data)
{
	for (size_t i = 0; i < table->count; i++)
		if (table->descriptions[i].ops && table->descriptions[i].ops->type == type)
			TRY(call(&table->list[i], data));
	return NULL;
}
