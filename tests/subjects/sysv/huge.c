/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * System V shared memory of huge pages: attached twice, of which one for reading only and without its
 * first page; the page in the middle was never touched.
 */
#include <errno.h>
#include <sys/shm.h>

#include "huge_pages.h"
#include "smaps.h"

enum { PAGES = 3, SIZE = PAGES * HUGE_BYTES, SMALL_PAGES = HUGE_BYTES / SMAPS_PAGE_BYTES };

static void check(const struct subject *subject, const char *what, const char *at, size_t first)
{
	if (first == 0)
		pages_check(subject, what, at, 1, 5, 8);
	pages_check_zero(subject, what, at, SMALL_PAGES, SMALL_PAGES);
	pages_check(subject, what, at, 2 * SMALL_PAGES, SMALL_PAGES, 9);
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct smaps *smaps = smaps_new();
	struct shmid_ds segment;

	huge_pages_allow();
	int id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | SHM_HUGETLB | 0600);
	if (id < 0)
		subject_skip(&subject, "no huge pages: shmget: errno %d (sysctl vm.nr_hugepages)", errno);
	char *all = shmat(id, NULL, 0);
	char *reader = shmat(id, NULL, SHM_RDONLY);
	if (all == (void *)-1 || reader == (void *)-1 || munmap(reader, HUGE_BYTES) < 0)
		subject_fail(&subject, "set-up: errno %d", errno);
	pages_write(all, 1, 5, 8);
	pages_write(all, 2 * SMALL_PAGES, SMALL_PAGES, 9);
	smaps_before(smaps);

	subject_ready(&subject);

	smaps_check(smaps, &subject);
	check(&subject, "all", all, 0);
	check(&subject, "reader", reader, 1);
	all[HUGE_BYTES] = 'y';
	if (reader[HUGE_BYTES] != 'y' || mprotect(reader + HUGE_BYTES, HUGE_BYTES, PROT_READ | PROT_WRITE) == 0)
		subject_fail(&subject, "the attachment for reading only is another memory, or becomes writable");
	if (shmdt(all) < 0 || shmdt(reader) < 0 || shmctl(id, IPC_STAT, &segment) < 0 || segment.shm_nattch != 0 ||
	    segment.shm_segsz != SIZE || shmctl(id, IPC_RMID, NULL) < 0)
		subject_fail(&subject, "attached %lu times in the end: errno %d", segment.shm_nattch, errno);
	return subject_pass(&subject);
}
