/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include "objects/sysv/sysv.h"
#include "util/alloc.h"
#include "util/negative_errno.h"
#include "util/procfs.h"

/* The last argument of semctl(2), which the caller has to declare. */
union semun {
	int value;
	struct semid_ds *set;
	struct seminfo *info;
};

static const struct {
	const char *name, *next_id;
	char option; /* of ipcrm(1) */
	const char *create;
	long number;
} kinds[SYSV_KIND_COUNT] = {
	[SYSV_SEGMENT] = {"System V shared memory", "shm_next_id", 'm', "shmget", SYS_shmget},
	[SYSV_SEMAPHORES] = {"System V semaphores", "sem_next_id", 's', "semget", SYS_semget},
	[SYSV_QUEUE] = {"System V message queue", "msg_next_id", 'q', "msgget", SYS_msgget},
};

uint32_t sysv_own_pid(const struct sysv_users *users, pid_t pid)
{
	for (size_t i = 0; i < users->count; i++)
		if (users->tasks[i].pid == pid)
			return (uint32_t)users->tasks[i].own_pid;
	return 0;
}

const char *sysv_name(enum sysv_kind kind)
{
	return kinds[kind].name;
}

char *sysv_removal(enum sysv_kind kind, uint32_t id)
{
	return xformat("ipcrm -%c %u", kinds[kind].option, id);
}

/* ---- Looking ---- */

/* A place in the table, or an id. The id, or a negative errno. */
static int look(enum sysv_kind kind, int at, bool is_place, struct sysv_look *ret_look)
{
	struct shmid_ds segment = {0};
	struct semid_ds set = {0};
	struct msqid_ds queue = {0};
	int id = -1;

	switch (kind) {
	case SYSV_SEGMENT:
		id = shmctl(at, is_place ? SHM_STAT : IPC_STAT, &segment);
		*ret_look = (struct sysv_look){
			.perm = segment.shm_perm,
			.changed_s = (uint64_t)segment.shm_ctime,
			.attached_count = segment.shm_nattch,
			.creator = segment.shm_cpid,
		};
		break;
	case SYSV_SEMAPHORES:
		id = semctl(at, 0, is_place ? SEM_STAT : IPC_STAT, (union semun){.set = &set});
		*ret_look = (struct sysv_look){
			.perm = set.sem_perm,
			.changed_s = (uint64_t)set.sem_ctime,
			.used_s = (uint64_t)set.sem_otime,
		};
		break;
	case SYSV_QUEUE:
		id = msgctl(at, is_place ? MSG_STAT : IPC_STAT, &queue);
		*ret_look = (struct sysv_look){
			.perm = queue.msg_perm,
			.changed_s = (uint64_t)queue.msg_ctime,
			.used_s = (uint64_t)(queue.msg_stime > queue.msg_rtime ? queue.msg_stime : queue.msg_rtime),
		};
		break;
	case SYSV_KIND_COUNT:
		return -EINVAL;
	}
	if (id < 0)
		return negative_errno();
	return is_place ? id : at;
}

int sysv_look(enum sysv_kind kind, uint32_t id, struct sysv_look *ret_look)
{
	int r = id > INT32_MAX ? -EINVAL : look(kind, (int)id, false, ret_look);

	return r < 0 ? r : 0;
}

/* Where an id is always the same object: this boot and IPC namespace. The caller frees; NULL: not known. */
static char *own_space(void)
{
	auto_free char *boot = NULL;
	char namespace[64] = "";

	if (procfs_read(getpid(), "../sys/kernel/random/boot_id", &boot, NULL) < 0 ||
	    readlink("/proc/self/ns/ipc", namespace, sizeof(namespace) - 1) < 0)
		return NULL;
	return xformat("%.*s %s", (int)strcspn(boot, "\n"), boot, namespace);
}

bool sysv_is_left(const struct sysv_look *there, const IpcDescEntry *desc, const GodwitSysvEntry *extra)
{
	auto_free char *space = own_space();

	return space && extra->space && strcmp(space, extra->space) == 0 && there->attached_count == 0 &&
	       extra->changed_s && there->changed_s == extra->changed_s && (uint32_t)there->perm.__key == desc->key &&
	       there->perm.cuid == desc->cuid;
}

/* The last place in use; negative: none. */
static int last_place(enum sysv_kind kind)
{
	struct shm_info segments;
	struct seminfo sets;
	struct msginfo queues;

	switch (kind) {
	case SYSV_SEGMENT:
		return shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&segments);
	case SYSV_SEMAPHORES:
		return semctl(0, 0, SEM_INFO, (union semun){.info = &sets});
	case SYSV_QUEUE:
		return msgctl(0, MSG_INFO, (struct msqid_ds *)(void *)&queues);
	case SYSV_KIND_COUNT:
		break;
	}
	return -1;
}

void sysv_list(enum sysv_kind kind, int **ret_ids, size_t *ret_count)
{
	int last = last_place(kind);
	int *ids = xalloc(((size_t)(last < 0 ? 0 : last) + 1) * sizeof(*ids));
	size_t count = 0;

	for (int place = 0; place <= last; place++) {
		struct sysv_look there;
		int id = look(kind, place, true, &there);

		if (id >= 0)
			ids[count++] = id;
	}
	*ret_ids = ids;
	*ret_count = count;
}

void sysv_describe(const struct ipc_perm *perm, uint32_t id, IpcDescEntry *ret_desc)
{
	*ret_desc = (IpcDescEntry)IPC_DESC_ENTRY__INIT;
	ret_desc->key = (uint32_t)perm->__key;
	ret_desc->uid = perm->uid;
	ret_desc->gid = perm->gid;
	ret_desc->cuid = perm->cuid;
	ret_desc->cgid = perm->cgid;
	ret_desc->mode = perm->mode;
	ret_desc->id = id;
}

struct error *sysv_remove(enum sysv_kind kind, uint32_t id)
{
	int r = -1;

	switch (kind) {
	case SYSV_SEGMENT:
		r = shmctl((int)id, IPC_RMID, NULL);
		break;
	case SYSV_SEMAPHORES:
		r = semctl((int)id, 0, IPC_RMID);
		break;
	case SYSV_QUEUE:
		r = msgctl((int)id, IPC_RMID, NULL);
		break;
	case SYSV_KIND_COUNT:
		break;
	}
	return r < 0 ? error_new(errno, "remove %s %u", sysv_name(kind), id) : NULL;
}

/* ---- What the images have no field for ---- */

void sysv_put_extra(enum sysv_kind kind, uint32_t id, const struct sysv_extra *extra, struct image_store *store)
{
	GodwitSysvEntry entry = GODWIT_SYSV_ENTRY__INIT;
	auto_free char *space = own_space();

	entry.space = space;
	entry.kind = kind;
	entry.id = id;
	entry.has_changed_s = true;
	entry.changed_s = extra->changed_s;
	entry.has_is_used = entry.is_used = extra->is_used;
	entry.pids = (uint32_t *)(uintptr_t)extra->pids;
	entry.n_pids = extra->pid_count;
	entry.undos = (GodwitSysvUndo **)(uintptr_t)extra->undos;
	entry.n_undos = extra->undo_count;
	image_put(store, IMAGE_GODWIT_SYSV, 0, &entry.base);
}

struct error *sysv_get_extra(const struct image_store *store, enum sysv_kind kind, uint32_t id,
                             GodwitSysvEntry **ret_entry)
{
	for (size_t i = 0; i < image_count(store, IMAGE_GODWIT_SYSV, 0); i++) {
		ProtobufCMessage *message;

		TRY(image_get(store, IMAGE_GODWIT_SYSV, 0, i, &message));
		*ret_entry = (GodwitSysvEntry *)message;
		if ((*ret_entry)->kind == kind && (*ret_entry)->id == id)
			return NULL;
		godwit_sysv_entry__free_unpacked(*ret_entry, NULL);
	}
	*ret_entry = xalloc(sizeof(**ret_entry));
	godwit_sysv_entry__init(*ret_entry);
	return NULL;
}

/* ---- Making ---- */

struct error *sysv_ask_for_id(enum sysv_kind kind, uint32_t id)
{
	auto_free char *path = xformat("/proc/sys/kernel/%s", kinds[kind].next_id);
	auto_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	auto_free char *text = xformat("%u", id);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return error_hint(error_new(errno, "%s", path),
		                  "CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN is needed for this, and a kernel with "
		                  "CONFIG_CHECKPOINT_RESTORE");
	return NULL;
}

uint64_t sysv_flags(const IpcDescEntry *desc)
{
	return IPC_CREAT | IPC_EXCL | (desc->mode & 0777);
}

/* Who creates is who the task is just then; it keeps what it may do meanwhile (capabilities(7)). */
static void become(struct batch *batch, uint32_t uid, uint32_t gid)
{
	const uint64_t same = UINT64_MAX;

	batch_call(batch, prctl, val(PR_SET_SECUREBITS), val(SECBIT_NO_SETUID_FIXUP), val(0), val(0), val(0));
	batch_call(batch, setresgid, val(same), val(gid), val(same));
	batch_call(batch, setresuid, val(same), val(uid), val(same));
}

static void become_oneself(struct batch *batch, uint64_t securebits)
{
	const uint64_t same = UINT64_MAX;

	batch_call(batch, setresuid, val(same), val(geteuid()), val(same));
	batch_call(batch, setresgid, val(same), val(getegid()), val(same));
	batch_call(batch, prctl, val(PR_SET_SECUREBITS), val(securebits), val(0), val(0), val(0));
}

struct error *sysv_create(struct process *task, enum sysv_kind kind, const IpcDescEntry *desc,
                          const struct arg arguments[3])
{
	auto_batch struct batch *batch = process_batch(task, process_caller(task));
	bool is_other = desc->cuid != geteuid() || desc->cgid != getegid();
	int securebits = prctl(PR_GET_SECUREBITS);

	TRY(sysv_ask_for_id(kind, desc->id));
	batch_about(batch, kinds[kind].name, desc->id);
	if (is_other)
		become(batch, desc->cuid, desc->cgid);
	struct arg made = batch_append(batch, kinds[kind].create, kinds[kind].number, 3, arguments);
	if (is_other)
		become_oneself(batch, (uint64_t)(securebits < 0 ? 0 : securebits));
	TRY(process_run(task, batch));
	int64_t id = batch_result(batch, made);
	if (id == desc->id)
		return NULL;
	TRY(sysv_remove(kind, (uint32_t)id));
	return error_hint(
		error_new(EEXIST, "%s %u can't get its id here, but %" PRId64, kinds[kind].name, desc->id, id),
		"ipcs shows what is there");
}

struct error *sysv_set_owner(enum sysv_kind kind, const IpcDescEntry *desc)
{
	struct shmid_ds segment = {.shm_perm = {.uid = desc->uid, .gid = desc->gid, .mode = desc->mode & 0777}};
	struct semid_ds set = {.sem_perm = segment.shm_perm};
	int r = -1;

	switch (kind) {
	case SYSV_SEGMENT:
		r = shmctl((int)desc->id, IPC_SET, &segment);
		break;
	case SYSV_SEMAPHORES:
		r = semctl((int)desc->id, 0, IPC_SET, (union semun){.set = &set});
		break;
	case SYSV_QUEUE: /* takes more than that: queues.c */
	case SYSV_KIND_COUNT:
		return error_new(EINVAL, "owner of a %s", sysv_name(kind));
	}
	return r < 0 ? error_new(errno, "owner of %s %u", sysv_name(kind), desc->id) : NULL;
}
