/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System V shared memory from the inside: one by a key, attached twice, once for reading only, with a part unmapped and
 * one moved; one that has been removed and lives on as it is attached; one of another owner and creator, which is locked.
 */
#include <errno.h>
#include <sys/shm.h>
#include <sys/stat.h>

#include "smaps.h"

enum {
	PAGES = 20,
	SIZE = PAGES * SMAPS_PAGE_BYTES - 123,
	HOLE = 7,
	MOVED = 12,
	KEY = 0x676f6477,
	OWNER = 4321,
	GROUP = 1234,
	CREATOR = 5432,
	MODE = 0640,
};

static void make_others_table_full(void)
{
	/* So that ids are no small numbers. */
	for (int i = 0; i < 3; i++)
		shmctl(shmget(IPC_PRIVATE, 1, 0600), IPC_RMID, NULL);
}

static struct shmid_ds look(const struct subject *subject, int id)
{
	struct shmid_ds segment;

	if (shmctl(id, IPC_STAT, &segment) < 0)
		subject_fail(subject, "shmctl(%d): errno %d", id, errno);
	return segment;
}

static void check_same(const struct subject *subject, int id, const struct shmid_ds *before)
{
	struct shmid_ds now = look(subject, id);
	const struct ipc_perm *a = &before->shm_perm, *b = &now.shm_perm;

	if (a->__key != b->__key || a->uid != b->uid || a->gid != b->gid || a->cuid != b->cuid || a->cgid != b->cgid ||
	    a->mode != b->mode)
		subject_fail(subject,
		             "segment %d: key %#x, owner %u:%u, creator %u:%u, mode %o, not %#x, %u:%u, %u:%u, %o", id,
		             b->__key, b->uid, b->gid, b->cuid, b->cgid, b->mode, a->__key, a->uid, a->gid, a->cuid,
		             a->cgid, a->mode);
	if (before->shm_segsz != now.shm_segsz || before->shm_nattch != now.shm_nattch ||
	    before->shm_cpid != now.shm_cpid)
		subject_fail(subject, "segment %d: %zu bytes, attached %lu times, created by %d, not %zu, %lu, %d", id,
		             now.shm_segsz, now.shm_nattch, now.shm_cpid, before->shm_segsz, before->shm_nattch,
		             before->shm_cpid);
}

/* Of the file behind it: it ends within a page. */
static void check_end(const struct subject *subject, const char *at)
{
	const unsigned long size = (SIZE + SMAPS_PAGE_BYTES - 1) / SMAPS_PAGE_BYTES * SMAPS_PAGE_BYTES;
	char path[128];
	struct stat stat_there;

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)at, (unsigned long)at + size);
	if (stat(path, &stat_there) < 0 || stat_there.st_size != SIZE)
		subject_fail(subject, "%s: %lld bytes: errno %d", path, (long long)stat_there.st_size, errno);
}

static char *attach(const struct subject *subject, int id, int flags)
{
	char *at = shmat(id, NULL, flags);

	if (at == (void *)-1)
		subject_fail(subject, "shmat(%d): errno %d", id, errno);
	return at;
}

static int make(const struct subject *subject, key_t key)
{
	int id = shmget(key, SIZE, IPC_CREAT | IPC_EXCL | MODE);

	if (id < 0)
		subject_fail(subject, "shmget: errno %d", errno);
	return id;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct smaps *smaps = smaps_new();
	char *place = mmap(NULL, SMAPS_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	make_others_table_full();
	int first = make(&subject, KEY);
	char *all = attach(&subject, first, 0);
	char *reader = attach(&subject, first, SHM_RDONLY);
	pages_write(all, 0, HOLE, 5);
	pages_write(all, HOLE + 1, PAGES - HOLE - 2, 5);
	all[SIZE - 1] = 'z';
	munmap(all + HOLE * SMAPS_PAGE_BYTES, SMAPS_PAGE_BYTES);
	mprotect(all + SMAPS_PAGE_BYTES, SMAPS_PAGE_BYTES, PROT_READ);
	char *moved = mremap(reader + MOVED * SMAPS_PAGE_BYTES, SMAPS_PAGE_BYTES, SMAPS_PAGE_BYTES,
	                     MREMAP_MAYMOVE | MREMAP_FIXED, place);

	int removed = make(&subject, KEY + 1);
	char *ghost = attach(&subject, removed, 0);
	pages_write(ghost, 3, 5, 6);
	if (moved == MAP_FAILED || shmctl(removed, IPC_RMID, NULL) < 0)
		subject_fail(&subject, "set-up: errno %d", errno);

	if (setegid(GROUP) < 0 || seteuid(CREATOR) < 0)
		subject_fail(&subject, "creator: errno %d", errno);
	int others = make(&subject, IPC_PRIVATE);
	if (seteuid(0) < 0 || setegid(0) < 0)
		subject_fail(&subject, "back from creator: errno %d", errno);
	char *locked = attach(&subject, others, 0);
	pages_write(locked, 1, 2, 7);
	locked[SIZE - 1] = 1;
	struct shmid_ds owned = look(&subject, others);
	owned.shm_perm.uid = OWNER;
	owned.shm_perm.mode = 0604;
	if (shmctl(others, IPC_SET, &owned) < 0 || shmctl(others, SHM_LOCK, NULL) < 0)
		subject_fail(&subject, "owner and lock: errno %d", errno);

	const struct shmid_ds before[] = {look(&subject, first), look(&subject, removed), look(&subject, others)};
	check_end(&subject, locked);
	smaps_before(smaps);

	subject_ready(&subject);

	smaps_check(smaps, &subject);
	check_end(&subject, locked);
	check_same(&subject, first, &before[0]);
	check_same(&subject, removed, &before[1]);
	check_same(&subject, others, &before[2]);
	if (shmget(KEY, 0, 0) != first)
		subject_fail(&subject, "its key doesn't lead to it: errno %d", errno);
	pages_check(&subject, "first", all, 0, HOLE, 5);
	pages_check(&subject, "first", all, HOLE + 1, PAGES - HOLE - 2, 5);
	pages_check_zero(&subject, "hole", reader, HOLE, 1);
	pages_check(&subject, "moved", moved - MOVED * SMAPS_PAGE_BYTES, MOVED, 1, 5);
	pages_check(&subject, "removed", ghost, 3, 5, 6);
	pages_check(&subject, "locked", locked, 1, 2, 7);
	if (all[SIZE - 1] != 'z' || all[SIZE] != 0)
		subject_fail(&subject, "its end");
	all[4 * SMAPS_PAGE_BYTES] = 'y';
	if (reader[4 * SMAPS_PAGE_BYTES] != 'y')
		subject_fail(&subject, "the two attachments are not the same memory");
	if (mprotect(reader, SMAPS_PAGE_BYTES, PROT_READ | PROT_WRITE) == 0)
		subject_fail(&subject, "an attachment for reading only becomes writable");
	if (mprotect(all + SMAPS_PAGE_BYTES, SMAPS_PAGE_BYTES, PROT_READ | PROT_WRITE) < 0)
		subject_fail(&subject, "a protected part can't become writable: errno %d", errno);

	if (shmdt(all) < 0 || shmdt(reader) < 0 || look(&subject, first).shm_nattch != 1)
		subject_fail(&subject, "shmdt leaves %lu attached: errno %d", look(&subject, first).shm_nattch, errno);
	if (shmctl(first, IPC_RMID, NULL) < 0 || shmctl(others, IPC_RMID, NULL) < 0)
		subject_fail(&subject, "remove: errno %d", errno);
	return subject_pass(&subject);
}
