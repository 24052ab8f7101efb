/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "objects/unix_diag.h"
#include "objects/unix_name.h"
#include "util/alloc.h"
#include "util/folder.h"

enum {
	UNIX_FILE = SIOCPROTOPRIVATE, /* SIOCUNIXFILE, Linux 4.15: opens the file that a socket is bound to */
	NAME_OFFSET = offsetof(struct sockaddr_un, sun_path),
};

static const char folder_prefix[] = ".godwit-";

struct error *unix_name_of(int fd, enum unix_end end, struct unix_name *ret_name)
{
	*ret_name = (struct unix_name){.bytes = sizeof(ret_name->address)};
	int r = end == UNIX_OWN ? getsockname(fd, (struct sockaddr *)&ret_name->address, &ret_name->bytes)
	                        : getpeername(fd, (struct sockaddr *)&ret_name->address, &ret_name->bytes);
	if (r == 0)
		return NULL;
	if (end == UNIX_OWN || errno != ENOTCONN)
		return error_new(errno, end == UNIX_OWN ? "getsockname" : "getpeername");
	*ret_name = (struct unix_name){.address.sun_family = AF_UNIX, .bytes = NAME_OFFSET};
	return NULL;
}

size_t unix_name_bytes(const struct unix_name *name)
{
	return name->bytes > NAME_OFFSET ? name->bytes - NAME_OFFSET : 0;
}

bool unix_name_is_path(const struct unix_name *name)
{
	return unix_name_bytes(name) > 0 && name->address.sun_path[0];
}

/* The last byte of a path may be its NUL or not: unix(7). */
static size_t compared_bytes(const struct unix_name *name)
{
	size_t size_bytes = unix_name_bytes(name);

	return unix_name_is_path(name) ? strnlen(name->address.sun_path, size_bytes) : size_bytes;
}

bool unix_name_is_equal(const struct unix_name *one, const struct unix_name *other)
{
	size_t size_bytes = compared_bytes(one);

	return size_bytes == compared_bytes(other) &&
	       memcmp(one->address.sun_path, other->address.sun_path, size_bytes) == 0;
}

struct error *unix_name_from(const ProtobufCBinaryData *bytes, struct unix_name *ret_name)
{
	/* A path of all 108 bytes has its NUL behind them. */
	size_t size_bytes = bytes->len == sizeof(ret_name->address.sun_path) + 1 ? bytes->len - 1 : bytes->len;

	*ret_name = (struct unix_name){.address.sun_family = AF_UNIX, .bytes = NAME_OFFSET + (socklen_t)size_bytes};
	if (size_bytes > sizeof(ret_name->address.sun_path))
		return error_new(EBADMSG, "UNIX socket with a name of %zu bytes", bytes->len);
	if (size_bytes > 0)
		memcpy(ret_name->address.sun_path, bytes->data, size_bytes);
	return NULL;
}

/* As a string. The caller frees. */
static char *path_text(const struct unix_name *name)
{
	return xformat("%.*s", (int)compared_bytes(name), name->address.sun_path);
}

char *unix_name_text(const struct unix_name *name)
{
	size_t size_bytes = unix_name_bytes(name);

	if (size_bytes == 0)
		return xformat("no name");
	return unix_name_is_path(name) ? path_text(name)
	                               : xformat("@%.*s", (int)size_bytes - 1, name->address.sun_path + 1);
}

/* The path of a descriptor of ours, and whether it has been deleted. */
static struct error *read_place(int place, char **ret_path, bool *ret_is_deleted)
{
	static const char mark[] = " (deleted)";
	auto_free char *link = xformat("/proc/self/fd/%d", place);
	char path[PATH_MAX];
	struct stat stat;

	ssize_t length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return error_new(errno, "readlink(%s)", link);
	path[length] = '\0';
	if (fstat(place, &stat) < 0)
		return error_new(errno, "fstat");
	*ret_is_deleted = stat.st_nlink == 0;
	char *end = path + length - strlen(mark);
	if (*ret_is_deleted && end > path && strcmp(end, mark) == 0)
		*end = '\0';
	*ret_path = xformat("%s", path);
	return NULL;
}

struct error *unix_name_file(int fd, char **ret_path, bool *ret_is_deleted, struct stat *ret_stat)
{
	auto_fd int place = ioctl(fd, UNIX_FILE);

	if (place < 0)
		return error_new(errno, "ioctl(SIOCUNIXFILE)");
	if (fstat(place, ret_stat) < 0)
		return error_new(errno, "fstat");
	return read_place(place, ret_path, ret_is_deleted);
}

struct error *unix_name_reach(int fd, struct unix_name *ret_address, int *ret_place)
{
	TRY(unix_name_of(fd, UNIX_OWN, ret_address));
	*ret_place = -1;
	if (!unix_name_is_path(ret_address))
		return NULL;
	*ret_place = ioctl(fd, UNIX_FILE);
	if (*ret_place < 0)
		return error_new(errno, "ioctl(SIOCUNIXFILE)");
	/* Its own path may be that of another socket, or too long with our folder in it. */
	*ret_address = (struct unix_name){.address.sun_family = AF_UNIX, .bytes = sizeof(ret_address->address)};
	snprintf(ret_address->address.sun_path, sizeof(ret_address->address.sun_path), "/proc/self/fd/%d", *ret_place);
	return NULL;
}

/* ---- Binding ---- */

/* Deep enough for all the ".." that a relative name begins with. */
static struct error *enter_depth(const char *name)
{
	for (const char *next = name; *next == '.' || *next == '/'; next++) {
		if (*next != '/')
			continue;
		if ((mkdir("w", 0700) < 0 && errno != EEXIST) || chdir("w") < 0)
			return error_new(errno, "make a folder for %s", name);
	}
	return NULL;
}

static struct error *make_parents(const char *name)
{
	for (const char *slash = strchr(name + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		auto_free char *parent = xformat("%.*s", (int)(slash - name), name);

		if (mkdir(parent, 0700) < 0 && errno != EEXIST)
			return error_new(errno, "make folder %s", parent);
	}
	return NULL;
}

/* With folder as root. */
static struct error *bind_below(int fd, const struct unix_name *name, const char *folder)
{
	auto_free char *text = path_text(name);

	if (chroot(folder) < 0 || chdir("/") < 0)
		return error_new(errno, "chroot(%s)", folder);
	if (text[0] != '/')
		TRY(enter_depth(text));
	TRY(make_parents(text));
	if (bind(fd, (const struct sockaddr *)&name->address, name->bytes) < 0)
		return error_new(errno, "bind to %s", text);
	return NULL;
}

static struct error *bind_in(int fd, const struct unix_name *name, const char *folder)
{
	auto_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	auto_fd int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	/* Other threads of ours keep their root. */
	if (root < 0 || cwd < 0 || unshare(CLONE_FS) < 0)
		return error_new(errno, "note the root folder");
	struct error *error = bind_below(fd, name, folder);
	if (fchdir(root) < 0 || chroot(".") < 0 || fchdir(cwd) < 0)
		error = error_join(error, error_new(errno, "back to the root folder"));
	return error;
}

static struct error *set_access(int place, const FilePermsEntry *access)
{
	auto_free char *link = xformat("/proc/self/fd/%d", place);

	if (!access)
		return NULL;
	if (fchownat(place, "", access->uid, access->gid, AT_EMPTY_PATH) < 0)
		return error_new(errno, "chown to %u:%u", access->uid, access->gid);
	return chmod(link, access->mode & 07777) < 0 ? error_new(errno, "chmod to %o", access->mode & 07777) : NULL;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Out of the folder that was our root, called as it will be; or nowhere. */
static struct error *gather(int fd, const struct unix_binding *binding, const char *folder)
{
	auto_fd int place = ioctl(fd, UNIX_FILE);
	auto_free char *made = NULL;
	bool is_deleted = false;

	if (place < 0)
		return error_new(errno, "ioctl(SIOCUNIXFILE)");
	TRY(set_access(place, binding->access));
	TRY(read_place(place, &made, &is_deleted));
	if (!binding->path)
		return unlink(made) < 0 ? error_new(errno, "unlink(%s)", made) : NULL;
	auto_free char *wanted = xformat("%s/%s", folder, last_part(binding->path));
	return rename(made, wanted) < 0 ? error_new(errno, "rename(%s, %s)", made, wanted) : NULL;
}

static struct error *bind_path(int fd, const struct unix_binding *binding, struct restore_files *restore)
{
	const char *path = binding->path ? binding->path : "/tmp/socket";
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return error_new(errno, "getrandom");
	auto_free char *folder =
		xformat("%.*s%s%016" PRIx64, (int)(last_part(path) - path), path, folder_prefix, number);
	TRY(restore_note_folder(restore, folder));
	if (mkdir(folder, 0700) < 0)
		return error_new(errno, "make folder %s", folder);
	auto_free char *root = xformat("%s/.root", folder);
	if (mkdir(root, 0700) < 0)
		return error_new(errno, "make folder %s", root);
	TRY(bind_in(fd, &binding->name, root));
	return gather(fd, binding, folder);
}

struct error *unix_name_bind(int fd, const struct unix_binding *binding, struct restore_files *restore)
{
	auto_free char *text = unix_name_text(&binding->name);

	if (unix_name_bytes(&binding->name) == 0)
		return NULL;
	if (unix_name_is_path(&binding->name))
		return error_wrap(bind_path(fd, binding, restore), "UNIX socket %s", text);
	if (bind(fd, (const struct sockaddr *)&binding->name.address, binding->name.bytes) < 0)
		return error_new(errno, "bind to the abstract UNIX address %s", text);
	return NULL;
}

struct error *unix_name_settle(int fd)
{
	auto_fd int place = ioctl(fd, UNIX_FILE);
	auto_free char *made = NULL;
	bool is_deleted = false;

	if (place < 0)
		return NULL;
	TRY(read_place(place, &made, &is_deleted));
	const char *folder_end = made ? strrchr(made, '/') : NULL;
	if (!folder_end)
		return NULL;
	auto_free char *folder = xformat("%.*s", (int)(folder_end - made), made);
	const char *name = last_part(folder);
	if (is_deleted || strncmp(name, folder_prefix, strlen(folder_prefix)) != 0)
		return NULL;
	auto_free char *path = xformat("%.*s%s", (int)(name - folder), folder, folder_end + 1);
	if (rename(made, path) < 0)
		return error_new(errno, "rename(%s, %s)", made, path);
	folder_remove(folder);
	return NULL;
}

/* ---- Beforehand ---- */

static struct error *verify_path(const char *path)
{
	auto_free char *folder = xformat("%.*s", (int)(last_part(path) - path), path);
	struct stat stat;
	bool is_bound;

	if (path[0] != '/')
		return error_new(EBADMSG, "UNIX socket at %s", path);
	if (lstat(folder, &stat) < 0 || !S_ISDIR(stat.st_mode))
		return error_hint(error_new(0, "%s: the folder of a UNIX socket is missing here", folder),
		                  "mkdir -p '%s'", folder);
	if (lstat(path, &stat) < 0)
		return NULL;
	if (!S_ISSOCK(stat.st_mode))
		return error_hint(error_new(0, "%s: something else than a socket is here", path),
		                  "move it away, if it isn't needed");
	TRY(unix_diag_is_bound(&stat, &is_bound));
	return is_bound ? error_hint(error_new(EADDRINUSE, "%s: another process is bound to it here", path),
	                             "ss -xlp shows it")
	                : NULL;
}

struct error *unix_name_verify(const struct unix_binding *binding)
{
	if (unix_name_is_path(&binding->name))
		return binding->path ? verify_path(binding->path) : NULL;
	return NULL;
}
