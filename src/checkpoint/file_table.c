/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/file_table.h"
#include "checkpoint/refusal.h"
#include "util/alloc.h"
#include "util/procfs.h"

/* What a description's struct open_file borrows. */
struct description {
	char *link;
	char *fdinfo;
	FownEntry owner;
	const struct file_ops *ops; /* NULL: of no kind that we know */
	uint64_t mount, inode;      /* of fdinfo: they tell whether it is the same as before */
	size_t rank;                /* in order, once the table is complete */
	bool is_lock_known, needs_lock;
};

struct number {
	struct open_number number;
	size_t index; /* of the description */
	bool is_close_on_exec;
};

struct file_table {
	struct open_files open_files;
	pid_t pid;
	int pidfd;      /* borrowed */
	int fdinfo_dir; /* owned: /proc/PID/fdinfo */
	const struct carry_options *options;
	struct open_file *list;           /* owned; the descriptions */
	struct description *descriptions; /* owned; one for each in list */
	size_t count;
	struct number *numbers;           /* owned; ascending */
	struct open_number *open_numbers; /* owned: the same for open_files */
	size_t number_count;
	size_t *order; /* owned: indices into list, by device, inode and kcmp(2)'s order */
};

/* ---- Which description ---- */

/* kcmp(2): 0 equal, 1 less, 2 greater. */
static int compare_files(const struct file_table *table, int left_fd, int right_fd)
{
	long r = syscall(SYS_kcmp, table->pid, table->pid, KCMP_FILE, left_fd, right_fd);

	return r == 1 ? -1 : (int)r;
}

static int compare_numbers(uint64_t left, uint64_t right)
{
	return (left > right) - (left < right);
}

static int compare(const struct file_table *table, const struct stat *stat, int fd, const struct open_file *other)
{
	int r = compare_numbers(stat->st_dev, other->stat.st_dev);

	if (r == 0)
		r = compare_numbers(stat->st_ino, other->stat.st_ino);
	return r ? r : compare_files(table, fd, other->fd);
}

/* Where in order the description of fd is (true) or belongs (false). */
static bool find_in_order(const struct file_table *table, const struct stat *stat, int fd, size_t *ret_position)
{
	size_t low = 0;
	size_t high = table->count;
	size_t middle = high ? high - 1 : 0; /* first the last one: where the order is known, it goes behind that */

	for (; low < high; middle = low + (high - low) / 2) {
		int r = compare(table, stat, fd, &table->list[table->order[middle]]);

		if (r == 0) {
			*ret_position = middle;
			return true;
		}
		if (r < 0)
			high = middle;
		else
			low = middle + 1;
	}
	*ret_position = low;
	return false;
}

/* ---- What /proc says ---- */

struct seen {
	int fd;
	char *fdinfo; /* owned */
	uint64_t flags, mount, inode;
};

static void seen_free(struct seen *seen)
{
	free(seen->fdinfo);
}

/*
 * All of it comes with one read(2), if that has room: it is one record (seq_file). So a read that leaves room is the
 * whole; an epoll with many watches is read the slow way.
 */
static int read_whole_fdinfo(const struct file_table *table, int fd, char **ret_text)
{
	char text[1024];

	snprintf(text, sizeof(text), "%d", fd);
	auto_fd int file = openat(table->fdinfo_dir, text, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return -errno;
	ssize_t n = read(file, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	if (n == sizeof(text) - 1) {
		auto_free char *name = xformat("fdinfo/%d", fd);

		return procfs_read(table->pid, name, ret_text, NULL);
	}
	text[n] = '\0';
	*ret_text = xformat("%s", text);
	return 0;
}

static struct error *read_fdinfo(const struct file_table *table, int fd, struct seen *seen)
{
	int r = read_whole_fdinfo(table, fd, &seen->fdinfo);

	if (r < 0)
		return error_new(-r, "/proc/%d/fdinfo/%d", table->pid, fd);
	seen->fd = fd;
	r = procfs_number(seen->fdinfo, "flags", 8, &seen->flags);
	if (r == 0)
		r = procfs_number(seen->fdinfo, "mnt_id", 10, &seen->mount);
	if (r == 0)
		r = procfs_number(seen->fdinfo, "ino", 10, &seen->inode); /* Linux 5.14 */
	return r < 0 ? error_new(-r, "/proc/%d/fdinfo/%d", table->pid, fd) : NULL;
}

static struct error *read_link_and_stat(const struct file_table *table, int fd, char **ret_link, struct stat *ret_stat)
{
	auto_free char *path = xformat("/proc/%d/fd/%d", table->pid, fd);
	char link[PATH_MAX + 1];

	ssize_t length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		return error_new(errno, "readlink(%s)", path);
	if (stat(path, ret_stat) < 0)
		return error_new(errno, "stat(%s)", path);
	link[length] = '\0';
	*ret_link = xformat("%s", link);
	return NULL;
}

/* What a kind of file tells of itself in fdinfo begins in the line behind those that all have, with a word of its own. */
static const char *own_word(const char *fdinfo, size_t *ret_length)
{
	const char *ino = strstr(fdinfo, "\nino:");
	const char *own = ino ? strchr(ino + 1, '\n') : NULL;

	*ret_length = own && own[1] ? strcspn(own + 1, ": \t\n") : 0;
	return own ? own + 1 : fdinfo;
}

static bool is_of_one_kind(const char *fdinfo, const char *other)
{
	size_t length;
	size_t other_length;
	const char *word = own_word(fdinfo, &length);
	const char *other_word = own_word(other, &other_length);

	return length > 0 && length == other_length && memcmp(word, other_word, length) == 0;
}

static bool is_link(const struct file_table *table, int fd, const char *expected)
{
	auto_free char *path = xformat("/proc/%d/fd/%d", table->pid, fd);
	char link[PATH_MAX + 1];
	ssize_t length = readlink(path, link, sizeof(link) - 1);

	if (length < 0)
		return false;
	link[length] = '\0';
	return strcmp(link, expected) == 0;
}

/* F_GETOWN_EX and F_GETSIG of fcntl(2); who set it isn't told by the kernel. */
static struct error *read_owner(const struct open_file *file, FownEntry *owner)
{
	struct f_owner_ex ex = {0};
	int fd;

	TRY(open_file_borrow(file, &fd));
	if (fcntl(fd, F_GETOWN_EX, &ex) < 0)
		return error_new(errno, "F_GETOWN_EX(%d)", file->fd);
	owner->signum = (uint32_t)fcntl(fd, F_GETSIG);
	owner->pid_type = (uint32_t)ex.type;
	owner->pid = (uint32_t)ex.pid;
	return NULL;
}

/* ---- Building the table ---- */

/* What known says of this descriptor, if it still is the same file. */
static const struct description *find_known(const struct file_table *known, const struct seen *seen,
                                            const struct open_file **ret_file)
{
	for (size_t low = 0, high = known ? known->number_count : 0; low < high;) {
		size_t middle = low + (high - low) / 2;
		const struct number *number = &known->numbers[middle];
		const struct description *description = &known->descriptions[number->index];

		if (number->number.fd == seen->fd) {
			*ret_file = &known->list[number->index];
			return description->mount == seen->mount && description->inode == seen->inode ? description
			                                                                              : NULL;
		}
		if (number->number.fd < seen->fd)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static struct error *identify(struct file_table *table, const struct file_table *known, const struct seen *seen,
                              struct open_file *file, struct description *description)
{
	const struct open_file *known_file;
	const struct description *before = find_known(known, seen, &known_file);

	/* Eventfds, epolls and such have one inode, all of them. */
	if (before && strncmp(before->link, "anon_inode:", 11) == 0 && !is_of_one_kind(seen->fdinfo, before->fdinfo) &&
	    !is_link(table, seen->fd, before->link))
		before = NULL;
	if (!before)
		return read_link_and_stat(table, seen->fd, &description->link, &file->stat);
	description->link = xformat("%s", before->link);
	description->owner = before->owner;
	description->ops = before->ops;
	file->stat = known_file->stat;
	return NULL;
}

static bool is_owner_likely(const struct open_file *file)
{
	return (file->status_flags & O_ASYNC) || S_ISSOCK(file->stat.st_mode);
}

/* A new description, filled from what is known, seen and asked. */
static struct error *add_description(struct file_table *table, const struct file_table *known, struct seen *seen,
                                     struct open_file *file, size_t position)
{
	size_t index = table->count;
	struct description *description = &table->descriptions[index];

	file->id = (uint32_t)index + 1;
	if ((!known || is_owner_likely(file)) && !(file->status_flags & O_PATH))
		TRY(read_owner(file, &description->owner));
	description->fdinfo = take(seen->fdinfo);
	description->mount = seen->mount;
	description->inode = seen->inode;
	file->link = description->link;
	file->fdinfo = description->fdinfo;
	file->owner = &description->owner;
	memmove(&table->order[position + 1], &table->order[position], (table->count - position) * sizeof(size_t));
	table->order[position] = index;
	table->list[index] = *file;
	table->count++;
	if (!description->ops)
		description->ops = file_ops_for(&table->list[index]);
	return NULL;
}

static struct error *add_number(struct file_table *table, const struct file_table *known, struct seen *seen)
{
	struct description *next = &table->descriptions[table->count];
	struct number *number = &table->numbers[table->number_count];
	size_t position;
	struct open_file file = {
		.pid = table->pid,
		.pidfd = table->pidfd,
		.fd = seen->fd,
		.status_flags = (uint32_t)seen->flags & ~(uint32_t)O_CLOEXEC,
		.options = table->options,
		.all = &table->open_files,
	};

	*next = (struct description){0};
	fown_entry__init(&next->owner);
	TRY(identify(table, known, seen, &file, next));
	if (find_in_order(table, &file.stat, seen->fd, &position)) {
		free(next->link);
		number->index = table->order[position];
		if (seen->fd < table->list[number->index].fd)
			table->list[number->index].fd = seen->fd;
	} else {
		number->index = table->count;
		struct error *error = add_description(table, known, seen, &file, position);
		if (error)
			free(next->link);
		TRY(error);
	}
	number->number.fd = seen->fd;
	number->is_close_on_exec = seen->flags & O_CLOEXEC;
	table->number_count++;
	return NULL;
}

static int by_fd(const void *left, const void *right)
{
	return compare_numbers((uint64_t)((const struct number *)left)->number.fd,
	                       (uint64_t)((const struct number *)right)->number.fd);
}

static void publish(struct file_table *table)
{
	qsort(table->numbers, table->number_count, sizeof(*table->numbers), by_fd);
	for (size_t i = 0; i < table->count; i++)
		table->descriptions[table->order[i]].rank = i;
	for (size_t i = 0; i < table->number_count; i++)
		table->open_numbers[i] = (struct open_number){
			.fd = table->numbers[i].number.fd,
			.file = &table->list[table->numbers[i].index],
		};
	table->open_files.list = table->list;
	table->open_files.count = table->count;
	table->open_files.numbers = table->open_numbers;
	table->open_files.number_count = table->number_count;
	table->open_files.next_id = (uint32_t)table->count + 1;
}

static struct file_table *table_new(pid_t pid, int pidfd, const struct carry_options *options, size_t room)
{
	struct file_table *table = xalloc(sizeof(*table));

	table->pid = pid;
	table->pidfd = pidfd;
	table->fdinfo_dir = -1;
	table->options = options;
	table->open_files.pid = pid;
	table->list = xalloc((room + 1) * sizeof(*table->list));
	table->descriptions = xalloc((room + 1) * sizeof(*table->descriptions));
	table->numbers = xalloc((room + 1) * sizeof(*table->numbers));
	table->open_numbers = xalloc((room + 1) * sizeof(*table->open_numbers));
	table->order = xalloc((room + 1) * sizeof(*table->order));
	return table;
}

struct expected {
	int fd;
	size_t rank;
};

static int by_rank(const void *left, const void *right)
{
	const struct expected *one = left;
	const struct expected *other = right;

	return one->rank == other->rank ? (one->fd > other->fd) - (one->fd < other->fd)
	                                : compare_numbers(one->rank, other->rank);
}

/* In the order that their descriptions had: then one comparison, with the one before, finds the place of each. */
static void sort_as_known(int *fds, size_t count, const struct file_table *known)
{
	auto_free struct expected *expected = xalloc((count + 1) * sizeof(*expected));

	for (size_t i = 0, k = 0; i < count; i++) {
		while (k < known->number_count && known->numbers[k].number.fd < fds[i])
			k++;
		bool is_known = k < known->number_count && known->numbers[k].number.fd == fds[i];
		expected[i] = (struct expected){
			.fd = fds[i],
			.rank = is_known ? known->descriptions[known->numbers[k].index].rank : SIZE_MAX,
		};
	}
	qsort(expected, count, sizeof(*expected), by_rank);
	for (size_t i = 0; i < count; i++)
		fds[i] = expected[i].fd;
}

size_t file_table_count(const struct file_table *table)
{
	return table->number_count;
}

void file_table_drop_copies(struct file_table *table)
{
	open_files_drop_copies(&table->open_files);
}

struct error *file_table_read(pid_t pid, int pidfd, const struct file_table *known, const struct carry_options *options,
                              struct file_table **ret_table)
{
	auto_free int *fds = NULL;
	size_t count;

	int r = procfs_numbers(pid, "fd", &fds, &count);
	if (r < 0)
		return error_new(-r, "descriptors of process %d", pid);
	auto_file_table struct file_table *table = table_new(pid, pidfd, options, count);
	if (known)
		sort_as_known(fds, count, known);
	auto_free char *fdinfo = xformat("/proc/%d/fdinfo", pid);
	table->fdinfo_dir = open(fdinfo, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (table->fdinfo_dir < 0)
		return error_new(errno, "open(%s)", fdinfo);
	for (size_t i = 0; i < count; i++) {
		__attribute__((cleanup(seen_free))) struct seen seen = {0};
		auto_error struct error *error = read_fdinfo(table, fds[i], &seen);

		if (!error)
			error = add_number(table, known, &seen);
		/* Before the freeze a descriptor may be closed at any time. */
		if (error && error_errnum(error) != ENOENT && error_errnum(error) != EBADF)
			return error_wrap(take(error), "fd %d", fds[i]);
	}
	publish(table);
	if (!known)
		file_table_drop_copies(table);
	*ret_table = take(table);
	return NULL;
}

void file_table_free(struct file_table *table)
{
	if (!table)
		return;
	open_files_free(&table->open_files);
	for (size_t i = 0; i < table->count; i++) {
		free(table->descriptions[i].link);
		free(table->descriptions[i].fdinfo);
	}
	if (table->fdinfo_dir >= 0)
		close(table->fdinfo_dir);
	free(table->list);
	free(table->descriptions);
	free(table->numbers);
	free(table->open_numbers);
	free(table->order);
	free(table);
}

/* ---- Using it ---- */

static struct error *about(struct error *error, const struct open_file *file)
{
	return error_wrap(error, "fd %d (%s)", file->fd, file->link);
}

/* The program runs: it may have closed the descriptor, and have opened something else there, since the table was read. */
static bool is_still(const struct file_table *table, const struct open_file *file)
{
	return is_link(table, file->fd, file->link);
}

static struct error *check_one(const struct file_table *table, size_t index)
{
	const struct open_file *file = &table->list[index];
	const struct file_ops *ops = table->descriptions[index].ops;

	if (ops)
		return ops->check ? about(ops->check(file), file) : NULL;
	return refuse_file(file);
}

void file_table_check(const struct file_table *table, struct problems *problems)
{
	for (size_t i = 0; i < table->count; i++) {
		auto_error struct error *error = check_one(table, i);

		if (error && is_still(table, &table->list[i]))
			problems_add(problems, take(error));
	}
}

/* One answer for all that is done with this table, whatever a peer does meanwhile. */
static bool needs_lock(const struct file_table *table, size_t index)
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

bool file_table_needs_lock(const struct file_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		if (needs_lock(table, i))
			return true;
	return false;
}

struct error *file_table_unsent(const struct file_table *table, struct unsent *ret_unsent)
{
	*ret_unsent = (struct unsent){0};
	for (size_t i = 0; i < table->count; i++)
		if (needs_lock(table, i) && table->descriptions[i].ops->unsent)
			TRY(about(table->descriptions[i].ops->unsent(&table->list[i], ret_unsent), &table->list[i]));
	return NULL;
}

struct error *file_table_flows(const struct file_table *table, struct flow **ret_flows, size_t *ret_count)
{
	auto_free struct flow *flows = xalloc((table->count + 1) * sizeof(*flows));
	size_t count = 0;

	for (size_t i = 0; i < table->count; i++)
		if (needs_lock(table, i))
			TRY(about(table->descriptions[i].ops->flow(&table->list[i], &flows[count++]), &table->list[i]));
	*ret_flows = take(flows);
	*ret_count = count;
	return NULL;
}

struct error *file_table_hold(const struct file_table *table, struct held_file **ret_held, size_t *ret_count)
{
	struct held_file *held = xalloc((table->count + 1) * sizeof(*held));

	*ret_held = held;
	*ret_count = 0;
	for (size_t i = 0; i < table->count; i++) {
		const struct file_ops *ops = table->descriptions[i].ops;

		if (!needs_lock(table, i) || !ops->hold)
			continue;
		struct held_file *one = &held[*ret_count];
		one->ops = ops;
		TRY(about(ops->hold(&table->list[i], &one->fd, &one->before), &table->list[i]));
		*ret_count += one->fd >= 0;
	}
	return NULL;
}

static struct error *save_one(const struct file_table *table, size_t index, struct image_store *store)
{
	const struct open_file *file = &table->list[index];
	const struct file_ops *ops = table->descriptions[index].ops;

	if (!ops)
		return error_new(ENOTSUP, "fd %d: %s can't be carried", file->fd, file->link);
	return about(ops->save(file, store), file);
}

struct error *file_table_save(const struct file_table *table, uint32_t files_id, struct image_store *store)
{
	for (size_t i = 0; i < table->number_count; i++) {
		const struct number *number = &table->numbers[i];
		const struct file_ops *ops = table->descriptions[number->index].ops;
		FdinfoEntry entry = FDINFO_ENTRY__INIT;

		entry.id = table->list[number->index].id;
		entry.flags = number->is_close_on_exec ? FD_CLOEXEC : 0;
		entry.type = ops ? ops->type : FD_TYPES__UND;
		entry.fd = (uint32_t)number->number.fd;
		image_put(store, IMAGE_FDINFO, files_id, &entry.base);
	}
	for (size_t i = 0; i < table->count; i++)
		if (!needs_lock(table, i))
			TRY(save_one(table, i, store));
	return NULL;
}

struct error *file_table_save_locked(const struct file_table *table, struct image_store *store)
{
	for (size_t i = 0; i < table->count; i++)
		if (needs_lock(table, i))
			TRY(save_one(table, i, store));
	return NULL;
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
