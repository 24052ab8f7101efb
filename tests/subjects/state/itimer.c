/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* setitimer(2), all three: the time that is left, the interval, and that they still expire. */
#include <signal.h>
#include <stdint.h>
#include <sys/time.h>

#include "subject.h"

static const struct itimerval timers[] = {
	[ITIMER_REAL] = {.it_interval = {7000, 123456}, .it_value = {5000, 0}},
	[ITIMER_VIRTUAL] = {.it_interval = {8000, 234000}, .it_value = {6000, 0}},
	[ITIMER_PROF] = {.it_interval = {0, 0}, .it_value = {7000, 0}},
};

static volatile sig_atomic_t alarms;

static void count(int signal)
{
	(void)signal;
	alarms++;
}

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	const struct itimerval soon = {.it_value = {0, 1}};
	struct itimerval before;
	struct itimerval now;

	signal(SIGALRM, count);
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++)
		if (setitimer((__itimer_which_t)which, &timers[which], NULL) != 0)
			subject_fail(&subject, "timer %d can't be set", which);

	/* So that less is left than there was. */
	usleep(20 * 1000);
	getitimer(ITIMER_REAL, &before);

	subject_ready(&subject);

	getitimer(ITIMER_REAL, &now);
	if (timercmp(&now.it_value, &before.it_value, >))
		subject_fail(&subject, "%jd s %jd µs left, more than before", (intmax_t)now.it_value.tv_sec,
		             (intmax_t)now.it_value.tv_usec);
	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
		const struct itimerval *was = &timers[which];

		getitimer((__itimer_which_t)which, &now);
		/* The processor times count what the program used, in ticks of up to 10 ms. */
		if (now.it_value.tv_sec > was->it_value.tv_sec || now.it_value.tv_sec < was->it_value.tv_sec - 600 ||
		    now.it_interval.tv_sec != was->it_interval.tv_sec ||
		    now.it_interval.tv_usec / 10000 != was->it_interval.tv_usec / 10000)
			subject_fail(&subject, "timer %d: %jd s left, every %jd s %jd µs", which,
			             (intmax_t)now.it_value.tv_sec, (intmax_t)now.it_interval.tv_sec,
			             (intmax_t)now.it_interval.tv_usec);
	}
	setitimer(ITIMER_REAL, &soon, NULL);
	while (!alarms)
		pause();
	return subject_pass(&subject);
}
