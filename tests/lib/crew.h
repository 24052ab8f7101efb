/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * For subjects (subject.h) of what each thread has of its own: four threads, the main one among them, set it up, wait
 * while they are carried, and look, each with its number (0: the main thread).
 *
 * The others look one after the other, the main thread last: it may have given up privileges that they need.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "subject.h"

enum { CREW = 4 };

struct crew_job {
	void (*set_up)(const struct subject *subject, int number);
	void (*check)(const struct subject *subject, int number);
};

struct crew {
	const struct crew_job *job;
	const struct subject *subject;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int number; /* of the thread whose turn it is */
	int turn;   /* counts turns: setting up is 0 to CREW - 1, looking behind it */
};

static inline void crew_wait_for_turn(struct crew *crew, int turn)
{
	pthread_mutex_lock(&crew->mutex);
	while (crew->turn != turn)
		pthread_cond_wait(&crew->changed, &crew->mutex);
	pthread_mutex_unlock(&crew->mutex);
}

static inline void crew_next_turn(struct crew *crew)
{
	pthread_mutex_lock(&crew->mutex);
	crew->turn++;
	pthread_cond_broadcast(&crew->changed);
	pthread_mutex_unlock(&crew->mutex);
}

static inline void *crew_member(void *arg)
{
	struct crew *crew = arg;
	int number = crew->number;

	crew_next_turn(crew);
	crew_wait_for_turn(crew, CREW + number);
	crew->job->set_up(crew->subject, number);
	crew_next_turn(crew);
	crew_wait_for_turn(crew, 2 * CREW + number);
	crew->job->check(crew->subject, number);
	crew_next_turn(crew);
	return NULL;
}

/* The whole of a main(). The subject's folder is the working folder of the program, and anyone may write there. */
static inline int crew_main(int argc, char **argv, const struct crew_job *job)
{
	struct subject subject = subject_begin(argc, argv);
	struct crew crew = {.job = job, .subject = &subject, .turn = 1};
	pthread_t threads[CREW];

	if (chdir(subject.dir) != 0 || chmod(".", 0777) != 0)
		subject_fail(&subject, "folder: errno %d", errno);
	subject.dir = ".";
	pthread_mutex_init(&crew.mutex, NULL);
	pthread_cond_init(&crew.changed, NULL);
	for (int i = 1; i < CREW; i++) {
		crew.number = i;
		if (pthread_create(&threads[i], NULL, crew_member, &crew) != 0)
			subject_fail(&subject, "thread %d: errno %d", i, errno);
		crew_wait_for_turn(&crew, i + 1);
	}
	crew_next_turn(&crew);
	crew_wait_for_turn(&crew, 2 * CREW);
	job->set_up(&subject, 0);

	subject_ready(&subject);

	crew_next_turn(&crew);
	crew_wait_for_turn(&crew, 3 * CREW);
	job->check(&subject, 0);
	for (int i = 1; i < CREW; i++)
		pthread_join(threads[i], NULL);
	return subject_pass(&subject);
}
