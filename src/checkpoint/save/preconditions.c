/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "checkpoint/restore/pid_space.h"
#include "checkpoint/save/preconditions.h"
#include "objects/standard_streams.h"
#include "objects/tty.h"
#include "util/alloc.h"
#include "util/procfs.h"

static char *name_of(pid_t pid)
{
	char *comm;

	if (procfs_read(pid, "comm", &comm, NULL) < 0)
		return xformat("?");
	comm[strcspn(comm, "\n")] = '\0';
	return comm;
}

/* ---- Where it lives ---- */

/* What else is told apart by namespaces would have to be made again over there. */
static const struct {
	const char *link;
	const char *what;
} namespaces[] = {
	{"ns/pid", "PID"}, /* the first: is_apart() */
	{"ns/net", "network"}, {"ns/mnt", "mount"}, {"ns/ipc", "IPC"},
	{"ns/uts", "UTS"},     {"ns/user", "user"}, {"ns/cgroup", "cgroup"},
};

static bool is_same_namespace(pid_t pid, pid_t other, const char *link)
{
	auto_free char *own = xformat("/proc/%d/%s", other, link);
	auto_free char *its = xformat("/proc/%d/%s", pid, link);
	struct stat own_stat;
	struct stat its_stat;

	/* A kernel without that kind of namespace has only one. */
	if (stat(own, &own_stat) < 0 || stat(its, &its_stat) < 0)
		return true;
	return own_stat.st_ino == its_stat.st_ino && own_stat.st_dev == its_stat.st_dev;
}

/* Was it given a PID namespace by us? Then its parent is the init of that, and what it sees itself as can be carried. */
static bool is_apart(pid_t pid)
{
	uint64_t parent = 0;

	if (is_same_namespace(pid, getpid(), "ns/pid") || procfs_stat_field(pid, 4, &parent) < 0)
		return false;
	auto_free char *name = name_of((pid_t)parent);
	return strcmp(name, PID_SPACE_INIT) == 0;
}

static void check_namespaces(const struct live_tree *live, pid_t pid, struct problems *problems)
{
	pid_t root = live->list[0].pid;
	bool is_with_root = is_apart(root) && is_same_namespace(pid, root, "ns/pid");

	for (size_t i = is_with_root ? 1 : 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++)
		if (!is_same_namespace(pid, getpid(), namespaces[i].link))
			problems_add(problems,
			             error_hint(error_new(ENOTSUP, "it is in a %s namespace other than godwit's",
			                                  namespaces[i].what),
			                        "run godwit in its namespaces: nsenter --all --target %d godwit …",
			                        pid));
}

/* ---- Who watches it ---- */

static struct error *check_tracer(pid_t pid)
{
	auto_free char *status = NULL;
	uint64_t tracer;

	if (procfs_read(pid, "status", &status, NULL) < 0 || procfs_number(status, "TracerPid", 10, &tracer) < 0)
		return error_new(ESRCH, "process %d", pid);
	if (!tracer || (pid_t)tracer == getpid()) /* who holds it for a look */
		return NULL;
	auto_free char *name = name_of((pid_t)tracer);
	return error_hint(error_new(ENOTSUP, "it is traced by %s (PID %d)", name, (int)tracer), "end the tracer first");
}

static bool has_others_session(pid_t pid)
{
	uint64_t session;

	return procfs_stat_field(pid, 6, &session) == 0 && (pid_t)session != pid &&
	       (session == 0 || !procfs_is_dead((pid_t)session));
}

bool preconditions_detach(pid_t pid, const struct carry_options *options)
{
	return options->stdio != STDIO_KEEP && !options->shell_job && has_others_session(pid);
}

/* Leader is somebody outside of the tree; NULL: nobody who lives. */
static struct error *refuse_session(pid_t session, const char *leader)
{
	if (session == 0)
		return error_hint(error_new(ENOTSUP, "its session began outside of this PID namespace"), "%s",
		                  stdio_terminal_hint);
	if (!leader)
		return NULL;
	return error_hint(error_new(ENOTSUP, "it belongs to the session of %s (PID %d), which stays", leader, session),
	                  "%s", stdio_terminal_hint);
}

/* The leader of its session, if that is a process outside of the tree, alive, and stays here. What is so of the root is told
 * for all, and the options mean its session. */
static struct error *check_session(const struct live_tree *live, size_t task, const struct carry_options *options)
{
	pid_t pid = live->list[task].pid;
	bool may_stay = options->shell_job || options->stdio != STDIO_KEEP;
	uint64_t of_root;
	uint64_t session;
	auto_free char *leader = NULL;

	if (procfs_stat_field(pid, 6, &session) < 0 || live_tree_find(live, (pid_t)session) >= 0 ||
	    procfs_stat_field(live->list[0].pid, 6, &of_root) < 0)
		return NULL;
	if (session == of_root && (task > 0 || may_stay))
		return NULL;
	if (session > 0 && procfs_read((pid_t)session, "comm", &leader, NULL) == 0)
		leader[strcspn(leader, "\n")] = '\0';
	return refuse_session((pid_t)session, leader);
}

/* A terminal that it leads a session on, though it may have no descriptor of it. */
static struct error *check_terminal(pid_t pid, const struct open_files *files, const struct carry_options *options)
{
	uint64_t session;
	dev_t terminal = procfs_terminal(pid);

	if (!terminal || tty_is_inside(files, terminal) || options->shell_job || options->stdio != STDIO_KEEP ||
	    procfs_stat_field(pid, 6, &session) < 0 || (pid_t)session != pid)
		return NULL;
	return error_hint(error_new(ENOTSUP, "it has a controlling terminal (%u:%u), which stays", major(terminal),
	                            minor(terminal)),
	                  "%s", stdio_terminal_hint);
}

/* ---- What it shares ---- */

static bool is_shared(pid_t pid, pid_t other, int type)
{
	return syscall(SYS_kcmp, pid, other, type, 0, 0) == 0;
}

/* A child of vfork(2) or of clone(2) with CLONE_VM may be anybody; the parent is the usual one. */
static struct error *check_sharing(pid_t pid)
{
	uint64_t parent;

	if (procfs_stat_field(pid, 4, &parent) < 0 || parent == 0)
		return NULL;
	if (is_shared(pid, (pid_t)parent, KCMP_VM) || is_shared(pid, (pid_t)parent, KCMP_FILES))
		return error_new(ENOTSUP, "it shares its memory or its table of descriptors with its parent, PID %d",
		                 (int)parent);
	return NULL;
}

/* Calls of the program's are made from there: docs of src/task. valgrind takes it away from what it runs. */
static struct error *check_vdso(pid_t pid)
{
	struct procfs_range vdso;

	if (procfs_find_area(pid, "[vdso]", &vdso) != -ENOENT)
		return NULL;
	return error_hint(error_new(ENOTSUP, "it has no vDSO (vdso(7)) in its memory"),
	                  "a program that runs in valgrind has none: start it without");
}

/* ---- All together ---- */

static struct error *check_kind(pid_t pid)
{
	auto_free char *exe = xformat("/proc/%d/exe", pid);
	char target[2];

	if (readlink(exe, target, sizeof(target)) < 0)
		return errno == ENOENT ? error_new(ENOTSUP, "it is a kernel thread, or has ended")
		                       : error_new(errno, "readlink(%s)", exe);
	auto_fd int fd = open(exe, O_RDONLY | O_CLOEXEC);
	char ident[EI_CLASS + 1];
	if (fd >= 0 && read(fd, ident, sizeof(ident)) == sizeof(ident) && ident[EI_CLASS] != ELFCLASS64)
		return error_new(ENOTSUP, "it is no 64-bit program");
	return NULL;
}

void preconditions_check(const struct live_tree *live, size_t task, const struct open_files *files,
                         const struct carry_options *options, struct problems *problems)
{
	pid_t pid = live->list[task].pid;
	struct error *error = check_kind(pid);

	if (error) {
		problems_add(problems, error);
		return;
	}
	check_namespaces(live, pid, problems);
	problems_add(problems, check_tracer(pid));
	problems_add(problems, check_session(live, task, options));
	problems_add(problems, check_terminal(pid, files, options));
	if (task == 0)
		problems_add(problems, check_sharing(pid));
	problems_add(problems, check_vdso(pid));
}
