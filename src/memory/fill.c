/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "image/pages.h"
#include "memory/fill.h"
#include "util/alloc.h"

/* With it a write to a page that isn't there fails instead of waiting for somebody to make the page. */
enum { UFFD_FLAGS = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY };

struct filler {
	struct process *task; /* borrowed */
	int uffd;             /* owned; -1: there is none */
	bool is_over;         /* there will be none */
	bool is_there;        /* the page that was written last: the next one may be, too */
};

struct filler *filler_new(struct process *task)
{
	struct filler *filler = xalloc(sizeof(*filler));

	filler->task = task;
	filler->uffd = -1;
	return filler;
}

void filler_free(struct filler *filler)
{
	if (!filler)
		return;
	filler_end(filler);
	free(filler);
}

void filler_end(struct filler *filler)
{
	if (filler->uffd >= 0)
		close(filler->uffd);
	filler->uffd = -1;
	filler->is_over = true;
}

/* ---- Areas ---- */

static struct error *make_uffd(struct filler *filler)
{
	auto_batch struct batch *batch = process_batch(filler->task, 0);
	struct arg made = batch_call(batch, userfaultfd, val(UFFD_FLAGS));
	struct uffdio_api api = {.api = UFFD_API};
	auto_fd int fd = -1;

	TRY(process_make_fd(filler->task, batch, made, &fd));
	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return error_new(errno, "ioctl(UFFDIO_API)");
	filler->uffd = take(fd);
	return NULL;
}

void filler_add(struct filler *filler, uint64_t start, uint64_t end)
{
	struct uffdio_register request = {
		.range = {.start = start, .len = end - start},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (filler->uffd < 0 && !filler->is_over) {
		filler->is_over = true;
		error_free(make_uffd(filler));
	}
	/* An area that can't be registered is written like all others. */
	if (filler->uffd >= 0)
		ioctl(filler->uffd, UFFDIO_REGISTER, &request);
}

/* ---- Pages ---- */

/* Each returns how many bytes it has written: whole pages, 0 if the first one isn't for it. */

/* Pages that reach from one area into the next are refused as a whole: then one at a time. */
static size_t make_pages(const struct filler *filler, uint64_t address, const char *bytes, size_t size_bytes)
{
	struct uffdio_copy copy = {.dst = address, .src = (uintptr_t)bytes, .len = size_bytes};

	if (filler->uffd < 0)
		return 0;
	if (ioctl(filler->uffd, UFFDIO_COPY, &copy) < 0 && errno == ENOENT && size_bytes > PAGE_BYTES) {
		copy = (struct uffdio_copy){.dst = address, .src = (uintptr_t)bytes, .len = PAGE_BYTES};
		ioctl(filler->uffd, UFFDIO_COPY, &copy);
	}
	return copy.copy > 0 ? (size_t)copy.copy : 0;
}

static size_t write_pages(const struct filler *filler, uint64_t address, const char *bytes, size_t size_bytes)
{
	const struct iovec here = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size_bytes}; /* to drop a const */
	const struct iovec there = {.iov_base = (void *)(uintptr_t)address, .iov_len = size_bytes};
	ssize_t n = process_vm_writev(filler->task->pid, &here, 1, &there, 1, 0);

	return n > 0 ? (size_t)n / PAGE_BYTES * PAGE_BYTES : 0;
}

/* Pages that the task itself may not write to: FOLL_FORCE, proc_pid_mem(5). */
static size_t force_pages(const struct filler *filler, uint64_t address, const char *bytes, size_t size_bytes)
{
	ssize_t n = pwrite(filler->task->mem_fd, bytes, size_bytes, (off_t)address);

	return n > 0 ? (size_t)n / PAGE_BYTES * PAGE_BYTES : 0;
}

static size_t write_some(struct filler *filler, uint64_t address, const char *bytes, size_t size_bytes)
{
	size_t done = filler->is_there ? 0 : make_pages(filler, address, bytes, size_bytes);

	if (done > 0)
		return done;
	done = write_pages(filler, address, bytes, size_bytes);
	if (done == 0)
		done = force_pages(filler, address, bytes, size_bytes);
	filler->is_there = done > 0;
	return done > 0 ? done : make_pages(filler, address, bytes, size_bytes);
}

struct error *filler_write(struct filler *filler, uint64_t address, const void *bytes, size_t page_count)
{
	const char *from = bytes;
	size_t size_bytes = page_count * PAGE_BYTES;

	for (size_t done = 0; done < size_bytes;) {
		size_t n = write_some(filler, address + done, from + done, size_bytes - done);

		if (n == 0)
			return error_new(EFAULT, "write of page %#" PRIx64 " in task %d", address + done,
			                 filler->task->pid);
		done += n;
	}
	return NULL;
}
