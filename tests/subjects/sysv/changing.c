/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * Segments that come and go while the program is carried: two that take turns, of which each is made, attached, filled,
 * detached and removed, many times; ids and places in the kernel's table come again. The last two are looked at.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/shm.h>

#include "smaps.h"

enum { SLOTS = 2, PAGES = 4, PAUSE_US = 300, MOMENT_US = 10 };

struct slot {
	int id;
	char *at; /* NULL: it isn't there just now */
	uint64_t seed;
};

struct turns {
	const struct subject *subject;
	struct slot slots[SLOTS];
	atomic_bool is_over;
};

static void change(const struct subject *subject, struct slot *slot, uint64_t seed)
{
	if (slot->at && (shmdt(slot->at) < 0 || shmctl(slot->id, IPC_RMID, NULL) < 0))
		subject_fail(subject, "remove segment %d: errno %d", slot->id, errno);
	slot->id = shmget(IPC_PRIVATE, PAGES * SMAPS_PAGE_BYTES, IPC_CREAT | 0600);
	usleep(MOMENT_US); /* in which nobody has it attached */
	slot->at = shmat(slot->id, NULL, 0);
	if (slot->id < 0 || slot->at == (void *)-1)
		subject_fail(subject, "segment %d: errno %d", slot->id, errno);
	slot->seed = seed;
	pages_write(slot->at, 0, PAGES, seed);
}

static void *take_turns(void *data)
{
	struct turns *turns = data;

	for (uint64_t n = 3; !turns->is_over; n++) {
		change(turns->subject, &turns->slots[n % SLOTS], n);
		usleep(PAUSE_US);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct turns turns = {.subject = &subject};
	pthread_t thread;

	for (int i = 0; i < SLOTS; i++)
		change(&subject, &turns.slots[i], (uint64_t)i + 1);
	if (pthread_create(&thread, NULL, take_turns, &turns) != 0)
		subject_fail(&subject, "pthread_create");

	subject_ready(&subject);

	turns.is_over = true;
	pthread_join(thread, NULL);
	for (int i = 0; i < SLOTS; i++) {
		struct shmid_ds segment;

		pages_check(&subject, "segment", turns.slots[i].at, 0, PAGES, turns.slots[i].seed);
		if (shmctl(turns.slots[i].id, IPC_STAT, &segment) < 0 || segment.shm_nattch != 1 ||
		    shmdt(turns.slots[i].at) < 0 || shmctl(turns.slots[i].id, IPC_RMID, NULL) < 0)
			subject_fail(&subject, "segment %d: errno %d", turns.slots[i].id, errno);
	}
	return subject_pass(&subject);
}
