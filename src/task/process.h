/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * A process held with ptrace, and remote calls in its threads.
 *
 * The states, each entered by one function and each left unharmed when this process dies at any instant:
 *
 *     running ──process_seize──> seized ──process_stop──> stopped ──process_enter──> parked
 *                                   ^                        │                          │
 *                                   └──────────── process_thaw ─────────────────────────┘
 *
 * seized:  ptrace knows the threads, they run on.
 * stopped: each thread is in a ptrace stop; its registers have been read and put right (see thread.registers).
 * parked:  each thread waits in the stub, outside of ptrace's stops, and batches of calls can be run in any of them. One
 *          that has had no batch yet is still in its ptrace stop, with the registers with which it would come in. A
 *          thread under seccomp(2) stays in its stop and makes the calls of a batch one by one: seccomp.h.
 *
 * All functions here are for the one thread that called process_seize() or process_adopt(): ptrace(2) binds a task to
 * its tracer thread.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "arch/arch.h"
#include "task/batch.h"
#include "task/seccomp.h"
#include "util/error.h"
#include "util/procfs.h"

/* The rseq(2) area of a thread: PTRACE_GET_RSEQ_CONFIGURATION of ptrace(2). */
struct thread_rseq {
	uint64_t address; /* 0: none registered */
	uint32_t size_bytes;
	uint32_t signature;
};

/* Signals that wait for a thread, or for its process as a whole, in the order of their delivery. */
struct pending_signals {
	siginfo_t *list; /* owned */
	size_t count;
};

/* A system call that a stop has interrupted: calls.h finds out. */
struct interrupted_call {
	long number;      /* as the program made it; ARCH_CALL_NONE: none, or nobody knows which */
	uint64_t left_ns; /* of its time-out; 0: it has none, or it isn't known */
};

/* A thread of a held process. What is said of it holds while it is stopped or parked. */
struct thread {
	pid_t tid;     /* as the coordinator sees it */
	pid_t own_tid; /* as the program sees it: another one in a PID namespace of its own */
	size_t index;  /* in process.threads, and in the stub's pages */
	/*
	 * As the kernel has them, that is perhaps interrupted in a system call; but already put right: a call that the
	 * stop alone would have ended is made again, a restartable sequence (rseq(2)) has been aborted.
	 */
	struct arch_registers registers;
	struct interrupted_call call; /* that the thread is in, by its registers */
	struct arch_fpu fpu;          /* owned */
	uint64_t signal_mask;
	struct pending_signals pending; /* owned */
	struct thread_rseq rseq;
	int stop_signal;       /* of a group stop (SIGSTOP, SIGTSTP …) that the thread was in; 0: none */
	uint32_t batch_number; /* counts the batches it has been given */
	enum seccomp_mode_of_thread seccomp;
	int last_filter; /* index in process.filters of the one that was installed last; -1: none */
	bool is_held;    /* while the process is parked: stays in a ptrace stop */
	bool has_called; /* made calls by itself since it was stopped: remote_call() */
	bool has_begun;  /* a call that is to be gone on with: process_begin() */
	bool is_stopped; /* in a ptrace stop, as far as we have seen */
	bool is_gone;    /* ended, or swept away by an exec */
};

/* Room for a trampoline in a process: see remote.h. */
struct remote_slot {
	uint64_t address; /* 0: not looked for yet */
};

struct calls;

struct process {
	pid_t pid;              /* as the coordinator sees it */
	pid_t own_pid;          /* as the program sees it */
	int pidfd;              /* owned */
	int mem_fd;             /* owned: /proc/PID/mem, read and write */
	int maps_fd;            /* owned: /proc/PID/maps; -1: of one of ours */
	struct thread *threads; /* owned; threads[0] is the thread group leader */
	size_t thread_count;
	struct pending_signals pending; /* owned: for any of the threads */
	struct stub_pages *stub;        /* owned; NULL outside of "parked" */
	struct stub_pages *former_stub; /* owned: unmapped there, but not here yet, which can wait */
	struct remote_slot slot;
	struct procfs_range vdso;       /* when it was seized; empty: it has none, or is ours */
	struct seccomp_filters filters; /* owned: of all threads */
	bool is_stopped_for_good;       /* by process_set_stay(): a group stop that we have to end */
	bool is_ours;                   /* built by us: dies with us (PTRACE_O_EXITKILL) */
	bool stays_stopped;             /* behind process_outlive(): in a group stop, when we let it go */
	bool is_stopped_already;        /* the same, since process_stop_by() */
	uint64_t stop_began_ns;         /* CLOCK_MONOTONIC: when the first thread was stopped */
	struct calls *calls;            /* borrowed: notes of what the threads wait for; NULL: nobody wants to know */
};

/* Attaches to all threads of pid without stopping them. */
MUST_USE struct error *process_seize(pid_t pid, struct process **ret_process);

/* Attaches to a task of our own making, which is to be built: it dies with us. */
MUST_USE struct error *process_adopt(pid_t pid, pid_t own_pid, struct process **ret_process);

/* Notes what the threads wait for, where somebody wants to know (calls): just before they are stopped. */
void process_look(struct process *process);

/* Stops all threads, new ones too. On failure all run again. */
MUST_USE struct error *process_stop(struct process *process);

/* Reads the FPU state and the pending signals of all threads; they must be stopped, not parked. */
MUST_USE struct error *process_read_rest(struct process *process);

/*
 * Brings the stub in and parks all threads in it. Its pages go to at_address (0: where the kernel likes) and take
 * process_stub_bytes(thread_room); thread_room is how many threads there will be, 0: those that there are.
 */
MUST_USE struct error *process_enter(struct process *process, uint64_t at_address, size_t thread_room);
size_t process_stub_bytes(size_t thread_room);

/* How many threads the stub's pages have room for. */
size_t process_room(const struct process *process);

/* The address ranges that the stub's pages take in the task. */
enum { STUB_RANGES = 2 };
void process_stub_ranges(const struct process *process, struct procfs_range ret_ranges[STUB_RANGES]);

/* The thread that makes calls for the process as a whole: one that is parked, or else one that may map memory, if there are
 * such. */
size_t process_caller(const struct process *process);

/* An empty batch for that thread. The caller frees it. Never NULL. */
struct batch *process_batch(const struct process *process, size_t thread);

/* Runs a batch in its thread and takes over the results: NULL if every call did what was expected. */
MUST_USE struct error *process_run(struct process *process, struct batch *batch);

/* Runs batches, one for each thread (NULL: none), all at once. The first failure is returned, after all have ended. */
MUST_USE struct error *process_run_all(struct process *process, struct batch *const *batches);

/*
 * Makes a descriptor in the task and brings it over: runs batch, whose result fd is a descriptor, fetches a copy of
 * that with pidfd_getfd(2), and closes it there. If we die in between, the task closes it by itself, unless the thread is
 * held: see process_caller().
 */
MUST_USE struct error *process_make_fd(struct process *process, struct batch *batch, struct arg fd, int *ret_fd);

/* Lets all threads go on from where they were, unmaps the stub, detaches. Then process is only to be freed. */
MUST_USE struct error *process_thaw(struct process *process);

/* As process_thaw(), but the process is left in a group stop (SIGSTOP): only SIGCONT lets it go on. */
MUST_USE struct error *process_leave_stopped(struct process *process);

/* Ends a held process with SIGKILL and waits until it is gone, but for what its parent has to see of it. */
MUST_USE struct error *process_end(struct process *process);

/* The same for a parked one by exit_group(2) with that status, which its parent sees. */
MUST_USE struct error *process_exit(struct process *process, int status);

/* Waits until a process that is ending has gone. */
MUST_USE struct error *process_wait_gone(struct process *process);

/* ---- Building ---- */

/*
 * Parks a new thread of a parked process of ours, which a batch of that process has made: clone3(2) with CLONE_PTRACE,
 * so that it is traced from its first instruction and its maker isn't stopped. It takes the place of one that has ended, or
 * becomes the last one in threads.
 */
MUST_USE struct error *process_join(struct process *process, pid_t tid, pid_t own_tid);

/*
 * Takes over a new process that a batch of a parked process of ours has made: clone3(2) with CLONE_PTRACE. It is stopped;
 * process_enter() comes next. Copies of the stub's pages of copied_from go; NULL: its memory is shared (CLONE_VM).
 */
MUST_USE struct error *process_adopt_child(const struct process *copied_from, pid_t pid, pid_t own_pid,
                                           struct process **ret_process);

/* Ends a parked process of ours by that signal, which its parent sees, and waits until it has gone. It leaves no core. */
MUST_USE struct error *process_die_of(struct process *process, int signal);

/* Ends a parked thread of ours that isn't the leader, and waits for that. Its place in threads stays: is_gone. */
MUST_USE struct error *process_end_thread(struct process *process, size_t thread);

/*
 * Runs a batch whose last call, thread.call.number, is one that waits, and doesn't wait for its end: the thread is left in
 * it, and goes on with it by its restart block when it runs. Nothing else can be run in that thread any more.
 */
MUST_USE struct error *process_begin(struct process *process, const struct batch *batch);

/*
 * Ends the building of a parked process of ours: each thread gets the registers, FPU state and signal mask that its
 * struct thread says by now, and the stub's pages go away. All threads are stopped then.
 */
MUST_USE struct error *process_complete(struct process *process);

/*
 * From here on a completed process lives without us: if we die it stands still, in a group stop, from which it goes on as if
 * nothing had been; a program with a handler for SIGCONT sees one then.
 */
MUST_USE struct error *process_outlive(struct process *process, bool is_left_stopped);

/*
 * A completed process of ours goes into a group stop by that signal, for which it has no handler, and stays in it when it is
 * released. Its parent is told, and may wait for it: wait(2).
 */
MUST_USE struct error *process_stop_by(struct process *process, int signal);

/* Nothing is left to do that the program mustn't miss, but it isn't let go yet, and calls may be made in it. From here on it
 * runs if we die, unless it is to stay stopped. Again does nothing. */
MUST_USE struct error *process_withdraw_stop(struct process *process);

/* Lets it go, behind process_outlive(), or into that group stop if it was to be left so. */
MUST_USE struct error *process_release(struct process *process);

/*
 * While set, the threads stay where they are even if we die. Threads that aren't parked are in a group stop then; a program
 * with a handler for SIGCONT sees one when that is taken back.
 */
MUST_USE struct error *process_set_stay(struct process *process, bool stay);

/* Without process_thaw() before it: as if we had been killed, that is the threads go on by themselves. */
void process_free(struct process *process);
DEFINE_OWNED(struct process *, process_free)
#define auto_process AUTO(process_free)
