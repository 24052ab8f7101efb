/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "arch/arch.h"
#include "stub/stub.h"

/* All of it in one section, so that it can be copied as a whole: src/task/stub_pages.c. */
#define STUB_CODE __attribute__((section("stub_code")))

STUB_CODE static bool is_failure(int64_t result)
{
	return result < 0 && result >= -4095;
}

/* Nobody wants to know the results any more; and a filter of seccomp(2) that was suspended is so no longer. */
STUB_CODE static bool is_in_vain(const struct stub_session *session, const struct stub_call *call)
{
	return session && !(call->flags & STUB_ALWAYS) &&
	       (__atomic_load_n(&session->owner, __ATOMIC_ACQUIRE) & FUTEX_OWNER_DIED);
}

/* session may be NULL: the caller lives. */
STUB_CODE static void run(struct stub_control *control, const struct stub_session *session)
{
	for (uint32_t i = 0; i < control->count; i++) {
		struct stub_call *call = &control->calls[i];
		uint64_t arg[6];

		if (is_in_vain(session, call)) {
			call->result = -ECANCELED; /* what would undo it undoes nothing */
			continue;
		}
		for (unsigned n = 0; n < 6; n++) {
			arg[n] = call->arg[n];
			if (call->results & (1U << n))
				arg[n] = (uint64_t)control->calls[call->arg[n]].result;
			if (call->loads & (1U << n))
				arg[n] = (uint64_t)(int64_t) * (const int32_t *)call->arg[n];
		}
		call->result = arch_syscall(call->number, arg);
		if (is_failure(call->result) && !(call->flags & STUB_MAY_FAIL))
			return;
		control->done = i + 1;
	}
}

STUB_CODE void stub_run(struct stub_control *control)
{
	run(control, NULL);
}

/* Linux 5.16; Debian 12's headers have it, but older ones need not. */
#ifndef FUTEX_32
#define FUTEX_32 2
#endif

enum { STUB_SYS_FUTEX_WAITV = 449, STUB_SIG_SETMASK = 2 };

/* uapi/linux/futex.h: struct futex_waitv */
struct stub_wait {
	uint64_t value, address;
	uint32_t flags, unused;
};

STUB_CODE static int64_t call(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const uint64_t arg[6] = {a, b, c, d};

	return arch_syscall(number, arg);
}

/* Without FUTEX_PRIVATE: the words are shared with the coordinator. */
STUB_CODE static void wake_all(const uint32_t *word)
{
	call(SYS_futex, (uint64_t)word, FUTEX_WAKE, INT32_MAX, 0);
}

/* Until one of the two words is no longer what it was. No time-out: an interrupted one would cost the program its own
 * restart block. */
STUB_CODE static void wait_for_change(const uint32_t *owner, uint32_t owner_seen, const uint32_t *go, uint32_t go_seen)
{
	const struct stub_wait waits[2] = {{.value = owner_seen, .address = (uint64_t)owner, .flags = FUTEX_32},
	                                   {.value = go_seen, .address = (uint64_t)go, .flags = FUTEX_32}};

	call(STUB_SYS_FUTEX_WAITV, (uint64_t)waits, 2, 0, 0);
}

STUB_CODE static bool must_leave(struct stub_session *session, uint32_t owner)
{
	if (__atomic_load_n(&session->leave, __ATOMIC_ACQUIRE))
		return true;
	return (owner & FUTEX_OWNER_DIED) && !__atomic_load_n(&session->stay, __ATOMIC_ACQUIRE);
}

STUB_CODE void stub_main(struct stub_place *place)
{
	struct stub_session *session = (struct stub_session *)place->session_address;
	const uint64_t all = UINT64_MAX;
	uint32_t done = 0;

	__atomic_store_n(&place->entered, 1, __ATOMIC_RELEASE);
	call(SYS_rt_sigprocmask, STUB_SIG_SETMASK, (uint64_t)&all, 0, sizeof(all));
	for (;;) {
		uint32_t owner = __atomic_load_n(&session->owner, __ATOMIC_ACQUIRE);
		uint32_t go = __atomic_load_n(&place->go, __ATOMIC_ACQUIRE);

		if (go != done) {
			run((struct stub_control *)place->control_address, session);
			done = go;
			__atomic_store_n(&place->done, done, __ATOMIC_RELEASE);
			wake_all(&place->done);
		} else if (must_leave(session, owner)) {
			break;
		} else {
			wait_for_change(&session->owner, owner, &place->go, go);
		}
	}
	/* The kernel wakes only one thread when the coordinator dies. */
	wake_all(&session->owner);
	arch_leave(&place->saved, &place->signal_mask);
}
