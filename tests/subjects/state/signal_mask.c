/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* Signal masks: each thread its own, all 64 signals but two. */
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "crew.h"

/* Bit 9 is SIGUSR1, which the runner sends; 0 to 33 hold those that libc keeps for itself, so the kernel is asked. */
static const uint64_t masks[CREW] = {
	0x8000000100000a01,
	0xdeadbeef12305a00,
	0x0000000000000200,
	0xfffffffe7ffbfeff,
};

static uint64_t mask_now(void)
{
	uint64_t mask = 0;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof(mask));
	return mask;
}

static void set_up(const struct subject *subject, int number)
{
	if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &masks[number], NULL, sizeof(masks[number])) != 0 ||
	    mask_now() != masks[number])
		subject_fail(subject, "mask of thread %d: %#jx, errno %d", number, (uintmax_t)mask_now(), errno);
}

static void check(const struct subject *subject, int number)
{
	if (mask_now() != masks[number])
		subject_fail(subject, "mask of thread %d: %#jx", number, (uintmax_t)mask_now());
}

int main(int argc, char **argv)
{
	const struct crew_job job = {set_up, check};

	return crew_main(argc, argv, &job);
}
