/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * What a kind of open file has to know about itself.
 *
 * Each kind is one file here with both halves side by side and one struct file_ops at its end. What is the same for
 * every open file (number in the table, close-on-exec, status flags, owner, who shares it) is done by the caller,
 * so that no kind can forget it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fdinfo.pb-c.h"
#include "image/store.h"
#include "task/batch.h"
#include "util/flow.h"

/* What standard streams become that can't go along: standard_streams.h. */
enum stdio { STDIO_KEEP, STDIO_NULL, STDIO_JOURNAL, STDIO_FILE };

/* What the user allowed. Borrowed by everything below. */
struct carry_options {
	bool shell_job;       /* terminals of a session that stays behind are inherited */
	bool tcp_established; /* TCP connections are carried, not refused */
	enum stdio stdio;
	const char *stdio_path;     /* of STDIO_FILE */
	uint64_t ghost_limit_bytes; /* the largest deleted file whose content goes into the image */
};

/* A task of the tree that is saved. */
struct open_task {
	pid_t pid;         /* as this process sees it */
	pid_t own_pid;     /* as it sees itself, and so in the images */
	int pidfd;         /* -1: it has ended, and waits for its parent to see that */
	uint32_t files_id; /* tasks with the same one share their table of descriptors; 0: it has none */
};

struct multicast_groups;
struct netlink;
struct outlet;
struct open_files;
struct process;

/*
 * An open file description, seen from outside. fdinfo, status_flags and owner are as of the freeze (in check(): as of
 * now). link and stat may be older: a file may have been renamed or have grown since, but which file it is (device,
 * inode, type) doesn't change as long as the description lives. All borrowed.
 */
struct open_file {
	uint32_t id;           /* names it in the image */
	pid_t pid;             /* of the first task that has it; our own if it is in flight in a UNIX socket: unix(7) */
	int pidfd;             /* of the same */
	int fd;                /* its number there; the lowest one, if it has several */
	const char *link;      /* what /proc/PID/fd/N points to */
	struct stat stat;      /* fstat(2) of it */
	const char *fdinfo;    /* text of /proc/PID/fdinfo/N */
	uint32_t status_flags; /* F_GETFL: no O_CLOEXEC, which belongs to the descriptor */
	FownEntry *owner;
	const struct carry_options *options;
	struct open_files *all; /* what it is one of */
	bool becomes_file;      /* in a check: a file takes its place, which no epoll can watch */
	void *answers;          /* of file_ops.read; NULL: nobody has asked yet */
};

/* A number in a table of descriptors. */
struct open_number {
	size_t task; /* index of the first one that has the table */
	int fd;
	const struct open_file *file; /* borrowed: what it stands for */
	/* Borrowed: its fdinfo, where that may tell of locks which file->fdinfo doesn't show: those of another process. NULL:
	 * it doesn't. */
	const char *locks;
};

/*
 * All that a tree of processes has open, and what the kinds note about it. One is made for a check of all files, and one for a
 * save of all files: notes of a check must not be there in the save.
 */
struct open_files {
	const struct open_task *tasks; /* borrowed; the first one is the root */
	size_t task_count;
	const struct open_file *list; /* borrowed; each description once, their all pointing here */
	size_t count;
	const struct open_number *numbers; /* borrowed; all descriptors, ascending by task and fd */
	size_t number_count;
	uint32_t next_id;             /* higher than any id given so far: open_files_new_id() */
	struct number_map *notes;     /* owned; NULL at first: of open_files_first() */
	struct number_map *outsiders; /* owned; NULL at first: of open_files_outsider() */
	int *copies;                  /* owned; by id: of open_file_borrow(); -1: none */
	size_t copy_room;
	struct netlink *diag;            /* owned; NULL at first: for sock_diag(7) */
	struct multicast_groups *groups; /* owned; NULL at first: of this host, for one save */
	bool is_sketch;                  /* the program runs: what waits in queues is left alone */
};

/* A new save begins: nothing is in the images yet. */
void open_files_begin(struct open_files *files);

/* Frees what the kinds noted, not what files borrows. */
void open_files_free(struct open_files *files);
#define auto_open_files __attribute__((cleanup(open_files_free)))

/* An id for an entry of files.img that is no description of its own, as the path of a named pipe. */
uint32_t open_files_new_id(struct open_files *files);

/*
 * True once for each key of a type, with a number that is the key's own: for what several descriptions share and is
 * saved with the first. A key is a device and an inode, or what else the type likes.
 */
bool open_files_first(struct open_files *files, FdTypes type, uint64_t key, uint64_t key_more, uint32_t *ret_number);

/* The task with that PID (as this process sees it), or NULL: it is none of the tree. */
const struct open_task *open_files_task(const struct open_files *files, pid_t pid);

/* The description behind a number in a task's table (by its PID as this process sees it), or NULL. */
const struct open_file *open_files_at(const struct open_files *files, pid_t pid, int fd);

/* The description that a descriptor of this process stands for, or NULL. */
const struct open_file *open_files_same(const struct open_files *files, int fd_here);

/* A process outside of the tree that has this pipe, socket or pseudoterminal open (one of them), 0: none. Reads /proc of all processes,
 * once for each files: not to be called while the program is frozen. */
pid_t open_files_outsider(struct open_files *files, const struct stat *stat);

/* "PID (name)" of a process, for errors. The caller frees. */
char *open_files_process_text(pid_t pid);

/* A copy of the description's descriptor in this process: pidfd_getfd(2). The caller closes it, soon: a copy that is
 * held delays EOF and the release of locks. */
MUST_USE struct error *open_file_copy(const struct open_file *file, int *ret_fd);

/* One that is kept for all who ask, until open_files_drop_copies(): to be called before the program goes on. */
MUST_USE struct error *open_file_borrow(const struct open_file *file, int *ret_fd);
void open_files_drop_copies(struct open_files *files);

/* Takes over a copy, for open_file_borrow() to give instead of one that it may have. */
void open_file_keep_copy(const struct open_file *file, int copy);

/* What a restore of files works with. */
struct restore_files;

/* Both are borrowed until free. Free closes what is left of the spare descriptors, so it must come before the program
 * runs: a spare end of a pipe delays its EOF. Never NULL. */
struct restore_files *restore_files_new(const struct image_store *store, const struct carry_options *options);
void restore_files_free(struct restore_files *restore);

/*
 * Deleted files that were made again, and pseudoterminals, by what they were before. A process that is built from one store after the other
 * has them once: what maps such a file was made from an earlier store than the descriptors.
 */
struct restored_ghosts;
struct restored_ghosts *restored_ghosts_new(void);
void restored_ghosts_free(struct restored_ghosts *ghosts);
/* ghosts is borrowed until restore is freed. Without it they are kept as long as restore lives. */
void restore_files_set_ghosts(struct restore_files *restore, struct restored_ghosts *ghosts);

/* One of them; -1: not made yet. Giving hands over. */
int restore_ghost_borrow(const struct restore_files *restore, uint64_t inode, uint64_t device);
void restore_ghost_give(struct restore_files *restore, uint64_t inode, uint64_t device, int fd);

/* The program still runs where the images come from: files may have been written since these were made, and are looked
 * at again when it stands still. */
void restore_files_set_running(struct restore_files *restore);
bool restore_is_running(const struct restore_files *restore);
DEFINE_OWNED(struct restore_files *, restore_files_free)
#define auto_restore_files AUTO(restore_files_free)

/* The other end of a pipe or pair, made together with the first and kept until its own entry is restored; -1: none.
 * key is the type's own. Giving hands over, taking too; borrowing leaves it there. A second one with the same key
 * takes the place of the first, which is closed. */
int restore_spare_take(struct restore_files *restore, FdTypes type, uint64_t key);
int restore_spare_borrow(const struct restore_files *restore, FdTypes type, uint64_t key);
void restore_spare_give(struct restore_files *restore, FdTypes type, uint64_t key, int fd);

/*
 * Finds the message with a key in an image that has id 0, by an index that is made at the first call for that kind.
 * key_of tells the key of a message. *ret_index is for image_get(); false where no message has that key.
 */
MUST_USE struct error *restore_find(struct restore_files *restore, enum image_kind kind,
                                    uint64_t (*key_of)(const ProtobufCMessage *message), uint64_t key,
                                    bool *ret_is_found, size_t *ret_index);

/* The entry of files.img with that id, of whatever type; or number index of them. The caller frees it. */
MUST_USE struct error *restore_file_entry(struct restore_files *restore, uint32_t id, FileEntry **ret_entry);
MUST_USE struct error *restore_nth_file_entry(struct restore_files *restore, size_t index, FileEntry **ret_entry);

/* From here on this message (taken over) is what is found under that key of an image, whatever the store has. */
void restore_replace(struct restore_files *restore, enum image_kind kind, uint64_t key, ProtobufCMessage *message);

/* A copy of it, for the caller to free; NULL: there is none. */
ProtobufCMessage *restore_replacement(const struct restore_files *restore, enum image_kind kind, uint64_t key);

/* A number under a key of a type, kept as long as restore. restore_note() is false, and changes nothing, where that key
 * has one already; restore_noted() is false where it has none. */
bool restore_note(struct restore_files *restore, FdTypes type, uint64_t key, uint64_t value);
bool restore_noted(const struct restore_files *restore, FdTypes type, uint64_t key, uint64_t *ret_value);

/* Where restore() may run calls of its own, for what the kernel remembers about its maker: NULL in a test without a
 * task. There, descriptor own_pidfd stands for this process. Borrowed. */
struct restore_task {
	struct process *process;
	int own_pidfd;
};
void restore_files_set_task(struct restore_files *restore, const struct restore_task *task);
const struct restore_task *restore_task(const struct restore_files *restore);

/* The task of the program that calls itself by that PID, for what only that one may do; NULL: there is none. */
typedef struct process *restore_find_task(pid_t own_pid, void *context);
void restore_files_set_finder(struct restore_files *restore, restore_find_task *find, void *context);
struct process *restore_task_by_pid(const struct restore_files *restore, pid_t own_pid);

/* A description is in its place in a task, once all files are. The other one makes a copy here of its descriptor, for the
 * caller to close; false: it has no place, it is in flight. */
void restore_note_place(struct restore_files *restore, uint32_t id, int pidfd, int fd);
MUST_USE struct error *restore_copy_placed(const struct restore_files *restore, uint32_t id, bool *ret_is_placed,
                                           int *ret_fd);

/* A file that was made, or a folder that is there only while the program is restored: it goes, with what is in it, when
 * restore is freed. */
void restore_note_made(struct restore_files *restore, const char *path);

/* The same for a folder (an absolute path) that is about to be made. watch, if there is one, is told of it first. */
MUST_USE struct error *restore_note_folder(struct restore_files *restore, const char *path);
typedef struct error *restore_folder_watch(const char *path, void *context);
void restore_files_watch_folders(struct restore_files *restore, restore_folder_watch *watch, void *context);

/* The program goes on: files stay; resume() needs the folders, and removes them. */
void restore_files_keep_made(struct restore_files *restore);

/* Keeps a message for as long as restore lives, for what a made_file borrows from it. Takes it over. */
void restore_keep(struct restore_files *restore, ProtobufCMessage *message);

const struct image_store *restore_store(const struct restore_files *restore);
const struct carry_options *restore_options(const struct restore_files *restore);

/*
 * A file that restore() made, in one of two ways. Here: local_fd is a descriptor of this process (owned by the caller
 * from then on), which the task will fetch with pidfd_getfd(2). Or there: fd stands for the result of a call in the
 * batch. The first is the simpler; the second is for what the kernel remembers about its maker (SO_PEERCRED …).
 */
struct made_file {
	int local_fd;           /* -1: made by the batch */
	struct arg fd;          /* in the task that runs the batch */
	uint32_t status_flags;  /* for the caller to set with F_SETFL; nothing is to be set if O_PATH is in them */
	const FownEntry *owner; /* for the caller to set; NULL: none. Borrowed from the entry or restore */
};

/* A description that is in its place(s) in the task's table. */
struct placed_file {
	const FileEntry *entry;
	int fd; /* its lowest number there */
};

/* What is on its way between a program and its peers. */
struct unsent {
	uint64_t bytes;       /* that the peers have not acknowledged: they are sent again, later */
	uint64_t connections; /* that the program has not accepted: they would be lost */
};

struct file_ops {
	const char *name; /* as in errors and in godwit-objects(7) */
	FdTypes type;

	bool (*recognizes)(const struct open_file *file);

	/*
	 * NULL (or an error that says why this file can't be carried and what the user may do: "packet socket,
	 * listening on eth0"). Called before anything is frozen; must not disturb the program. May be NULL.
	 */
	struct error *(*check)(const struct open_file *file);

	/* Has it another end, which stays with somebody else, although it could be carried? May be NULL: never. */
	bool (*stays)(const struct open_file *file);

	/* What it will be connected to anew, if anything: outlet.h. The caller frees the path. Not while the program is
	 * frozen. May be NULL: nothing. */
	bool (*outlet)(const struct open_file *file, struct outlet *ret_outlet);

	/* True for a connection whose state may be read only behind the network lock. May be NULL: never. */
	bool (*needs_lock)(const struct open_file *file);

	/* Which packets the lock has to stop, of a file that needs_lock(). */
	struct error *(*flow)(const struct open_file *file, struct flow *ret_flow);

	/* The same for an entry of an image; false: it isn't one that needs the lock. May be NULL: it never is. */
	bool (*entry_flow)(const FileEntry *entry, struct flow *ret_flow);

	/* What is on its way, of any file, or where there is needs_lock(), of those that do: is added to ret_unsent. The
	 * freeze waits for 0. May be NULL: nothing ever is. */
	struct error *(*unsent)(const struct open_file *file, struct unsent *ret_unsent);

	/* True for a file that save() changes for a moment without a need for the lock. May be NULL: never. */
	bool (*needs_hold)(const struct open_file *file);

	/*
	 * For a file that needs_hold(), or that needs_lock() and that save() leaves in a state in which it doesn't
	 * work: a copy of it for the caller (-1: there is no need), and what go_on() needs to know of how it was
	 * before. May be NULL.
	 */
	struct error *(*hold)(const struct open_file *file, int *ret_fd, uint32_t *ret_before);
	/* Undoes that. Also called in the keeper: uses nothing but what it is passed. */
	struct error *(*go_on)(int fd, uint32_t before);

	/*
	 * Descriptors in flight in a file that is held: copies of them in this process, for the caller to close, and to
	 * free the array. They become descriptions of the program like others, without a number. May be NULL: none.
	 */
	struct error *(*in_flight)(const struct open_file *file, int **ret_fds, size_t *ret_count);

	/*
	 * What takes most of the time of a save(), in a way that several threads can do it for several files at once: asks
	 * the kernel about a file of which there is a copy (open_file_borrow()) already, and leaves what it says in
	 * answer_bytes zeroed bytes. The thread that saves finds them in file->answers. May be NULL: save() asks by itself.
	 */
	struct error *(*read)(const struct open_file *file, void *ret_answers);
	size_t answer_bytes;
	void (*free_answers)(void *answers); /* what they point to */

	/* Puts file into the images. Reads only, but for hold(): the program must not notice a save that fails half way. */
	struct error *(*save)(const struct open_file *file, struct image_store *store);

	/* What of a file that is held can be saved only then; save() is called before, as for all others. held is from hold().
	 * May be NULL: save() is called when it is held. */
	struct error *(*save_held)(const struct open_file *file, int held, struct image_store *store);

	/* Was it of somebody else, who has stayed: stays() of an entry. May be NULL: never. */
	bool (*entry_stays)(const FileEntry *entry, const struct restore_files *restore);

	/* Can it be made again on this host? Called when nothing has been made yet. May be NULL: nothing is known. */
	struct error *(*preflight)(const FileEntry *entry, struct restore_files *restore);

	/*
	 * Makes the file again. The entry comes from an image: checked for well-formed protobuf, nothing else.
	 * What is appended to the batch runs after this returns.
	 */
	struct error *(*restore)(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
	                         struct made_file *ret_made);

	/*
	 * What can be done only when all files of the task are in their places: watches of an epoll, descriptors in
	 * flight. Runs batches of its own in the task, which is parked: an epoll may have more watches than one batch
	 * has room for. The numbers of descriptors may not change. May be NULL.
	 */
	struct error *(*finish)(const struct placed_file *file, struct restore_files *restore, struct process *task);

	/* After the network is unlocked: makes a connection work again (repair off, unsent bytes sent). fd is a copy
	 * in this process, borrowed. May be NULL. */
	struct error *(*resume)(const FileEntry *entry, const struct image_store *store, int fd);
};

/* The operations for a file of a program, or for an entry of an image. NULL: a kind we don't know. */
const struct file_ops *file_ops_for(const struct open_file *file);
const struct file_ops *file_ops_of_type(FdTypes type);
