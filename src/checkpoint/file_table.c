/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/file_table_parts.h"
#include "util/alloc.h"
#include "util/negative_errno.h"
#include "util/procfs.h"

/* ---- Which description ---- */

/* kcmp(2): 0 equal, 1 less, 2 greater. */
static int compare_files(pid_t pid, int fd, const struct open_file *other)
{
	long r = syscall(SYS_kcmp, pid, other->pid, KCMP_FILE, fd, other->fd);

	return r == 1 ? -1 : (int)r;
}

static int compare_numbers(uint64_t left, uint64_t right)
{
	return (left > right) - (left < right);
}

static int compare(const struct open_file *file, const struct open_file *other)
{
	int r = compare_numbers(file->stat.st_dev, other->stat.st_dev);

	if (r == 0)
		r = compare_numbers(file->stat.st_ino, other->stat.st_ino);
	return r ? r : compare_files(file->pid, file->fd, other);
}

/* Where in order the description of file is (true) or belongs (false). */
static bool find_in_order(const struct file_table *table, const struct open_file *file, size_t *ret_position)
{
	size_t low = 0;
	size_t high = table->count;
	size_t middle = high ? high - 1 : 0; /* first the last one: where the order is known, it goes behind that */

	for (; low < high; middle = low + (high - low) / 2) {
		int r = compare(file, &table->list[table->order[middle]]);

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
	int copy;     /* owned; -1: there is none, since it can't be closed meanwhile */
	char *fdinfo; /* owned */
	uint64_t flags, mount, inode;
};

static void seen_free(struct seen *seen)
{
	free(seen->fdinfo);
	if (seen->copy >= 0)
		close(seen->copy);
}

/*
 * All of it comes with one read(2), if that has room: it is one record (seq_file). So a read that leaves room is the
 * whole; an epoll with many watches is read the slow way.
 */
static int read_whole_fdinfo(pid_t pid, int fdinfo_dir, int fd, char **ret_text)
{
	char text[1024];

	snprintf(text, sizeof(text), "%d", fd);
	auto_fd int file = openat(fdinfo_dir, text, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return negative_errno();
	ssize_t n = read(file, text, sizeof(text) - 1);
	if (n < 0)
		return negative_errno();
	if (n == sizeof(text) - 1) {
		auto_free char *name = xformat("fdinfo/%d", fd);

		return procfs_read(pid, name, ret_text, NULL);
	}
	text[n] = '\0';
	*ret_text = xcopy(text);
	return 0;
}

static struct error *read_fdinfo(pid_t pid, int fdinfo_dir, int fd, struct seen *seen)
{
	int r = read_whole_fdinfo(pid, fdinfo_dir, fd, &seen->fdinfo);

	if (r < 0)
		return error_new(-r, "/proc/%d/fdinfo/%d", pid, fd);
	seen->fd = fd;
	r = procfs_number(seen->fdinfo, "flags", 8, &seen->flags);
	if (r == 0)
		r = procfs_number(seen->fdinfo, "mnt_id", 10, &seen->mount);
	if (r == 0)
		r = procfs_number(seen->fdinfo, "ino", 10, &seen->inode); /* Linux 5.14 */
	return r < 0 ? error_new(-r, "/proc/%d/fdinfo/%d", pid, fd) : NULL;
}

static struct error *read_link_and_stat(pid_t pid, int fd, char **ret_link, struct stat *ret_stat)
{
	auto_free char *path = xformat("/proc/%d/fd/%d", pid, fd);
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

bool file_table_is_link(pid_t pid, int fd, const char *expected)
{
	auto_free char *path = xformat("/proc/%d/fd/%d", pid, fd);
	char link[PATH_MAX + 1];
	ssize_t length = readlink(path, link, sizeof(link) - 1);

	if (length < 0)
		return false;
	link[length] = '\0';
	return strcmp(link, expected) == 0;
}

/* What the program calls a process, thread or group that we call number: the same, unless it is in a PID namespace of its
 * own. A group goes by its leader's name, or by its own. 0: nobody whom it could call. */
static pid_t own_number(pid_t pid, pid_t number)
{
	pid_t own_pid = pid;
	pid_t own = 0;
	pid_t session;
	uint64_t group = 0;

	if (number == 0 || procfs_own_tid(pid, pid, &own_pid) < 0 || own_pid == pid)
		return number;
	if (procfs_stat_field(pid, 5, &group) == 0 && (pid_t)group == number)
		return procfs_own_groups(pid, &own, &session) == 0 ? own : 0;
	return procfs_own_tid(pid, number, &own) == 0 || procfs_own_tid(number, number, &own) == 0 ? own : 0;
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
	owner->pid = (uint32_t)own_number(file->pid, ex.pid);
	return NULL;
}

/* ---- Building the table ---- */

static int compare_to(const struct number *number, size_t task, int fd)
{
	return number->number.task == task ? (number->number.fd > fd) - (number->number.fd < fd)
	                                   : compare_numbers(number->number.task, task);
}

/* What known says of this descriptor, if it still is the same file. */
static const struct description *find_known(const struct file_table *known, size_t task, const struct seen *seen,
                                            const struct open_file **ret_file)
{
	for (size_t low = 0, high = known ? known->number_count : 0; low < high;) {
		size_t middle = low + (high - low) / 2;
		const struct number *number = &known->numbers[middle];
		const struct description *description = &known->descriptions[number->index];
		int order = compare_to(number, task, seen->fd);

		if (order == 0) {
			*ret_file = &known->list[number->index];
			return description->mount == seen->mount && description->inode == seen->inode ? description
			                                                                              : NULL;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/*
 * The program runs, and may close the file and have another one at that number between two questions: a mixture of both
 * would be taken for known in the freeze. So it is the copy that is asked, and what fdinfo told of the program's own
 * counts if that is the same file still.
 */
static struct error *read_running(const struct seen *seen, const struct open_file *file, char **ret_link,
                                  struct stat *ret_stat)
{
	const struct open_file copy = {.pid = getpid(), .fd = seen->copy};
	auto_free char *link = NULL;

	TRY(read_link_and_stat(copy.pid, copy.fd, &link, ret_stat));
	if (compare_files(file->pid, file->fd, &copy) != 0)
		return error_new(EBADF, "it is another file now");
	*ret_link = take(link);
	return NULL;
}

static struct error *identify(const struct file_table *known, const struct seen *seen, size_t task,
                              struct open_file *file, struct description *description)
{
	const struct open_file *known_file;
	const struct description *before = find_known(known, task, seen, &known_file);

	/* Eventfds, epolls and such have one inode, all of them. */
	if (before && strncmp(before->link, "anon_inode:", 11) == 0 && !is_of_one_kind(seen->fdinfo, before->fdinfo) &&
	    !file_table_is_link(file->pid, seen->fd, before->link))
		before = NULL;
	if (!before && seen->copy >= 0)
		return read_running(seen, file, &description->link, &file->stat);
	if (!before)
		return read_link_and_stat(file->pid, seen->fd, &description->link, &file->stat);
	description->link = xcopy(before->link);
	description->owner = before->owner;
	description->ops = before->ops;
	file->stat = known_file->stat;
	return NULL;
}

static bool is_owner_likely(const struct open_file *file)
{
	return (file->status_flags & O_ASYNC) || S_ISSOCK(file->stat.st_mode);
}

static void make_room(struct file_table *table)
{
	if (table->count + 1 < table->room)
		return;
	table->room *= 2;
	table->list = xrealloc(table->list, table->room * sizeof(*table->list));
	table->descriptions = xrealloc(table->descriptions, table->room * sizeof(*table->descriptions));
	table->order = xrealloc(table->order, table->room * sizeof(*table->order));
}

/* A new description, filled from what is known, seen and asked. */
static struct error *add_description(struct file_table *table, const struct file_table *known, struct seen *seen,
                                     struct open_file *file, size_t position)
{
	size_t index = table->count;
	struct description *description = &table->descriptions[index];

	/* Ids behind the table's may have been given away before those in flight are known. */
	file->id = file_table_is_in_flight(file) ? open_files_new_id(&table->open_files) : (uint32_t)index + 1;
	if (seen->copy >= 0)
		open_file_keep_copy(file, take(seen->copy));
	if ((!known || is_owner_likely(file)) && !(file->status_flags & O_PATH))
		TRY(read_owner(file, &description->owner));
	description->fdinfo = take(seen->fdinfo);
	description->mount = seen->mount;
	description->inode = seen->inode;
	file->link = description->link;
	file->fdinfo = description->fdinfo;
	memmove(&table->order[position + 1], &table->order[position], (table->count - position) * sizeof(size_t));
	table->order[position] = index;
	table->list[index] = *file;
	table->count++;
	if (!description->ops)
		description->ops = file_ops_for(&table->list[index]);
	return NULL;
}

/* Of a description that another process was found to have before: what fdinfo tells of this one's locks alone. */
static void note_locks(const struct file_table *table, struct seen *seen, struct number *number)
{
	const struct number *last = number;

	if (table->list[number->index].pid == table->open_files.tasks[number->number.task].pid ||
	    !strstr(seen->fdinfo, "\nlock:"))
		return;
	/* Once is enough. */
	while (last-- > table->numbers && last->number.task == number->number.task)
		if (last->index == number->index)
			return;
	number->locks = take(seen->fdinfo);
}

static struct error *add_number(struct file_table *table, const struct file_table *known, size_t task,
                                struct seen *seen)
{
	make_room(table);
	struct description *next = &table->descriptions[table->count];
	struct number *number = &table->numbers[table->number_count];
	size_t position;
	struct open_file file = {
		.pid = table->open_files.tasks[task].pid,
		.pidfd = table->open_files.tasks[task].pidfd,
		.fd = seen->fd,
		.status_flags = (uint32_t)seen->flags & ~(uint32_t)O_CLOEXEC,
		.options = table->options,
		.all = &table->open_files,
	};

	*next = (struct description){0};
	*number = (struct number){.number = {.task = task, .fd = seen->fd}};
	fown_entry__init(&next->owner);
	TRY(identify(known, seen, task, &file, next));
	number->is_close_on_exec = seen->flags & O_CLOEXEC;
	if (find_in_order(table, &file, &position)) {
		free(next->link);
		number->index = table->order[position];
		struct open_file *found = &table->list[number->index];
		if (found->pid == file.pid && seen->fd < found->fd)
			found->fd = seen->fd;
		note_locks(table, seen, number);
	} else {
		number->index = table->count;
		struct error *error = add_description(table, known, seen, &file, position);
		if (error)
			free(next->link);
		TRY(error);
	}
	table->number_count++;
	return NULL;
}

static int by_place(const void *left, const void *right)
{
	const struct number *other = right;

	return compare_to(left, other->number.task, other->number.fd);
}

static void publish(struct file_table *table)
{
	qsort(table->numbers, table->number_count, sizeof(*table->numbers), by_place);
	for (size_t i = 0; i < table->count; i++)
		table->descriptions[table->order[i]].rank = i;
	for (size_t i = 0; i < table->count; i++)
		table->list[i].owner = &table->descriptions[i].owner;
	for (size_t i = 0; i < table->number_count; i++)
		table->open_numbers[i] = (struct open_number){
			.task = table->numbers[i].number.task,
			.fd = table->numbers[i].number.fd,
			.file = &table->list[table->numbers[i].index],
			.locks = table->numbers[i].locks,
		};
	table->open_files.list = table->list;
	table->open_files.count = table->count;
	table->open_files.numbers = table->open_numbers;
	table->open_files.number_count = table->number_count;
	if (table->open_files.next_id <= table->count)
		table->open_files.next_id = (uint32_t)table->count + 1;
}

static struct file_table *table_new(const struct open_task *tasks, size_t task_count,
                                    const struct carry_options *options, size_t room)
{
	struct file_table *table = xalloc(sizeof(*table));

	table->options = options;
	table->open_files.tasks = tasks;
	table->open_files.task_count = task_count;
	table->own_pidfd = -1;
	table->room = room + 1;
	table->list = xalloc((room + 1) * sizeof(*table->list));
	table->descriptions = xalloc((room + 1) * sizeof(*table->descriptions));
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
static void sort_as_known(int *fds, size_t count, size_t task, const struct file_table *known)
{
	auto_free struct expected *expected = xalloc((count + 1) * sizeof(*expected));

	for (size_t i = 0, k = 0; i < count; i++) {
		while (k < known->number_count && compare_to(&known->numbers[k], task, fds[i]) < 0)
			k++;
		bool is_known = k < known->number_count && compare_to(&known->numbers[k], task, fds[i]) == 0;
		expected[i] = (struct expected){
			.fd = fds[i],
			.rank = is_known ? known->descriptions[known->numbers[k].index].rank : SIZE_MAX,
		};
	}
	qsort(expected, count, sizeof(*expected), by_rank);
	for (size_t i = 0; i < count; i++)
		fds[i] = expected[i].fd;
}

static struct error *copy_running(const struct open_task *task, int fd, int *ret_copy)
{
	const struct open_file file = {.pid = task->pid, .pidfd = task->pidfd, .fd = fd};

	return open_file_copy(&file, ret_copy);
}

size_t file_table_count(const struct file_table *table)
{
	return table->number_count;
}

void file_table_drop_copies(struct file_table *table)
{
	open_files_drop_copies(&table->open_files);
}

/* The descriptors of a task, whose table no task before has. */
static struct error *read_table(struct file_table *table, const struct file_table *known, size_t task)
{
	pid_t pid = table->open_files.tasks[task].pid;
	auto_free char *path = xformat("/proc/%d/fdinfo", pid);
	auto_free int *fds = NULL;
	size_t count;

	int r = procfs_numbers(pid, "fd", &fds, &count);
	if (r < 0)
		return error_new(-r, "descriptors of process %d", pid);
	if (known)
		sort_as_known(fds, count, task, known);
	table->numbers = xrealloc(table->numbers, (table->number_count + count + 1) * sizeof(*table->numbers));
	auto_fd int fdinfo_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fdinfo_dir < 0)
		return error_new(errno, "open(%s)", path);
	for (size_t i = 0; i < count; i++) {
		__attribute__((cleanup(seen_free))) struct seen seen = {.copy = -1};
		auto_error struct error *error =
			known ? NULL : copy_running(&table->open_files.tasks[task], fds[i], &seen.copy);

		if (!error)
			error = read_fdinfo(pid, fdinfo_dir, fds[i], &seen);
		if (!error)
			error = add_number(table, known, task, &seen);
		/* Before the freeze a descriptor may be closed at any time. */
		if (error && error_errnum(error) != ENOENT && error_errnum(error) != EBADF)
			return error_wrap(take(error), "fd %d", fds[i]);
	}
	return NULL;
}

static bool has_own_table(const struct open_task *tasks, size_t task)
{
	for (size_t i = 0; i < task; i++)
		if (tasks[i].files_id == tasks[task].files_id)
			return false;
	return tasks[task].pidfd >= 0;
}

struct error *file_table_read(const struct open_task *tasks, size_t task_count, const struct file_table *known,
                              const struct carry_options *options, struct file_table **ret_table)
{
	enum { FIRST_ROOM = 64 };
	auto_file_table struct file_table *table =
		table_new(tasks, task_count, options, known ? known->count : FIRST_ROOM);

	for (size_t i = 0; i < task_count; i++)
		if (has_own_table(tasks, i))
			TRY(read_table(table, known, i));
	table->open_numbers = xalloc((table->number_count + 1) * sizeof(*table->open_numbers));
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
	file_table_forget_answers(table);
	open_files_free(&table->open_files);
	for (size_t i = 0; i < table->count; i++) {
		free(table->descriptions[i].link);
		free(table->descriptions[i].fdinfo);
	}
	for (size_t i = 0; i < table->number_count; i++)
		free(table->numbers[i].locks);
	free(table->list);
	free(table->descriptions);
	free(table->numbers);
	free(table->open_numbers);
	free(table->order);
	for (size_t i = 0; i < table->copy_count; i++)
		close(table->copies[i]);
	free(table->copies);
	if (table->own_pidfd >= 0)
		close(table->own_pidfd);
	free(table);
}

bool file_table_is_in_flight(const struct open_file *file)
{
	return file->pid == getpid();
}

struct error *file_table_about_task(struct error *error, const struct open_file *file)
{
	return error && !file_table_is_in_flight(file) && file->pid != file->all->tasks[0].pid
	               ? error_wrap(error, "process %d", file->pid)
	               : error;
}

struct error *file_table_about(struct error *error, const struct open_file *file)
{
	if (!error)
		return NULL;
	if (file_table_is_in_flight(file))
		return error_wrap(error, "a descriptor in flight (%s)", file->link);
	return file_table_about_task(error_wrap(error, "fd %d (%s)", file->fd, file->link), file);
}

/* ---- In flight ---- */

/* Takes over a copy of a description that may be one of the table's own. */
static struct error *add_copy(struct file_table *table, int fd_here)
{
	__attribute__((cleanup(seen_free))) struct seen seen = {.copy = -1};
	struct description *next;
	size_t position;
	struct open_file file = {
		.pid = getpid(),
		.pidfd = table->own_pidfd,
		.fd = fd_here,
		.options = table->options,
		.all = &table->open_files,
	};

	table->copies = xrealloc(table->copies, (table->copy_count + 1) * sizeof(*table->copies));
	table->copies[table->copy_count++] = fd_here;
	make_room(table);
	next = &table->descriptions[table->count];
	*next = (struct description){0};
	fown_entry__init(&next->owner);
	auto_fd int fdinfo_dir = open("/proc/self/fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	TRY(read_fdinfo(getpid(), fdinfo_dir, fd_here, &seen));
	file.status_flags = (uint32_t)seen.flags & ~(uint32_t)O_CLOEXEC;
	TRY(read_link_and_stat(getpid(), fd_here, &next->link, &file.stat));
	if (find_in_order(table, &file, &position)) {
		free(next->link);
		return NULL;
	}
	struct error *error = add_description(table, NULL, &seen, &file, position);
	if (error)
		free(next->link);
	return error;
}

static struct error *add_copies(struct file_table *table, int *fds, size_t count)
{
	struct error *error = NULL;

	for (size_t i = 0; i < count; i++) {
		if (error)
			close(fds[i]);
		else
			error = add_copy(table, fds[i]);
	}
	return error;
}

struct error *file_table_add_in_flight(struct file_table *table, size_t from, size_t until)
{
	if (table->own_pidfd < 0)
		table->own_pidfd = procfs_open_pid(getpid());
	for (size_t i = from; i < until; i++) {
		const struct file_ops *ops = table->descriptions[i].ops;
		auto_free int *fds = NULL;
		size_t count = 0;

		if (!ops || !ops->in_flight)
			continue;
		TRY(file_table_about(ops->in_flight(&table->list[i], &fds, &count), &table->list[i]));
		struct error *error = add_copies(table, fds, count); /* moves the list */
		TRY(file_table_about(error, &table->list[i]), "descriptors in flight");
	}
	publish(table);
	return NULL;
}

size_t file_table_descriptions(const struct file_table *table)
{
	return table->count;
}
