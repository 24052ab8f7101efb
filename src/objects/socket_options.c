/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "objects/socket_options.h"
#include "util/alloc.h"
#include "util/negative_errno.h"

/* Newer than Debian 12's headers. */
enum { GET_FILTER = SO_ATTACH_FILTER, BUF_LOCK = 72 };
/* Bits of that one. */
enum { SEND_LOCK = 1, RECEIVE_LOCK = 2 };

int socket_get(int fd, int level, int name, int *ret_value)
{
	int value = 0;
	socklen_t size = sizeof(value);

	if (getsockopt(fd, level, name, &value, &size) != 0)
		return negative_errno();
	*ret_value = value;
	return 0;
}

struct error *socket_set(int fd, int level, int name, int value, const char *what)
{
	if (setsockopt(fd, level, name, &value, sizeof(value)) != 0)
		return error_new(errno, "setsockopt(%s, %d)", what, value);
	return NULL;
}

struct error *socket_peek_offset(int fd, int *ret_offset)
{
	int r = socket_get(fd, SOL_SOCKET, SO_PEEK_OFF, ret_offset);

	return r < 0 ? error_new(-r, "getsockopt(SO_PEEK_OFF)") : NULL;
}

struct error *socket_set_peek_offset(int fd, int offset)
{
	return socket_set(fd, SOL_SOCKET, SO_PEEK_OFF, offset, "SO_PEEK_OFF");
}

void socket_options_free(struct socket_options *options)
{
	free(options->filter);
	options->filter = NULL;
}

/* Fields of sk_opts_entry that are one int; present says where the field's has_ is, 0: always there. */
struct int_field {
	int level;
	int name;
	const char *label;
	size_t value;
	size_t present;
	bool is_bool;
	bool local_only;
};

#define FIELD(option, field) \
	.level = SOL_SOCKET, .name = (option), .label = #option, .value = offsetof(SkOptsEntry, field)
#define OPTIONAL(option, field) FIELD(option, field), .present = offsetof(SkOptsEntry, has_##field)

static const struct int_field int_fields[] = {
	{OPTIONAL(SO_PRIORITY, so_priority)},
	{OPTIONAL(SO_RCVLOWAT, so_rcvlowat)},
	{OPTIONAL(SO_MARK, so_mark)},
	{OPTIONAL(SO_OOBINLINE, so_oobinline)},
	{OPTIONAL(SO_DONTROUTE, so_dontroute), .is_bool = true},
	{OPTIONAL(SO_NO_CHECK, so_no_check), .is_bool = true},
	{OPTIONAL(SO_REUSEPORT, so_reuseport), .is_bool = true},
	{OPTIONAL(SO_BROADCAST, so_broadcast), .is_bool = true},
	{OPTIONAL(SO_KEEPALIVE, so_keepalive), .is_bool = true},
	{OPTIONAL(SO_PASSCRED, so_passcred), .is_bool = true, .local_only = true},
	{OPTIONAL(SO_PASSSEC, so_passsec), .is_bool = true, .local_only = true},
};

static const size_t int_field_count = sizeof(int_fields) / sizeof(int_fields[0]);

static void put_field(SkOptsEntry *entry, const struct int_field *field, int value)
{
	char *base = (char *)entry;

	if (field->is_bool)
		*(protobuf_c_boolean *)(base + field->value) = value != 0;
	else
		*(uint32_t *)(void *)(base + field->value) = (uint32_t)value;
	*(protobuf_c_boolean *)(base + field->present) = true;
}

/* False: the image says nothing of it. */
static bool take_field(const SkOptsEntry *entry, const struct int_field *field, int *ret_value)
{
	const char *base = (const char *)entry;

	if (!*(const protobuf_c_boolean *)(base + field->present))
		return false;
	*ret_value = field->is_bool ? *(const protobuf_c_boolean *)(base + field->value)
	                            : (int)*(const uint32_t *)(const void *)(base + field->value);
	return true;
}

static struct error *save_int_fields(int fd, enum socket_traits traits, SkOptsEntry *entry)
{
	for (size_t i = 0; i < int_field_count; i++) {
		const struct int_field *field = &int_fields[i];
		int value;

		if (field->local_only && !(traits & SOCKET_LOCAL))
			continue;
		int r = socket_get(fd, field->level, field->name, &value);
		if (r == -EOPNOTSUPP || r == -ENOPROTOOPT) /* the kind of socket has no such thing */
			continue;
		if (r < 0)
			return error_new(-r, "getsockopt(%s)", field->label);
		put_field(entry, field, value);
	}
	return NULL;
}

static struct error *save_buffers(int fd, SkOptsEntry *entry)
{
	int send_bytes;
	int receive_bytes;
	int locks;
	int reuse;
	int r = socket_get(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes);

	if (r == 0)
		r = socket_get(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes);
	if (r == 0)
		r = socket_get(fd, SOL_SOCKET, SO_REUSEADDR, &reuse);
	if (r < 0)
		return error_new(-r, "getsockopt(SO_SNDBUF, SO_RCVBUF, SO_REUSEADDR)");
	entry->so_sndbuf = (uint32_t)send_bytes;
	entry->so_rcvbuf = (uint32_t)receive_bytes;
	entry->has_reuseaddr = true;
	entry->reuseaddr = reuse != 0;
	/* Before Linux 5.14 nothing tells who chose the sizes. */
	if (socket_get(fd, SOL_SOCKET, BUF_LOCK, &locks) == 0) {
		entry->has_so_buf_lock = true;
		entry->so_buf_lock = (uint32_t)locks;
	}
	return NULL;
}

static struct error *save_times(int fd, SkOptsEntry *entry)
{
	struct timeval send = {0};
	struct timeval receive = {0};
	struct linger linger = {0};
	socklen_t size = sizeof(send);
	socklen_t linger_size = sizeof(linger);

	if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send, &size) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &receive, &size) != 0)
		return error_new(errno, "getsockopt(SO_SNDTIMEO, SO_RCVTIMEO)");
	if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &linger_size) != 0)
		return error_new(errno, "getsockopt(SO_LINGER)");
	entry->so_snd_tmo_sec = (uint64_t)send.tv_sec;
	entry->so_snd_tmo_usec = (uint64_t)send.tv_usec;
	entry->so_rcv_tmo_sec = (uint64_t)receive.tv_sec;
	entry->so_rcv_tmo_usec = (uint64_t)receive.tv_usec;
	if (linger.l_onoff) {
		entry->has_so_linger = true;
		entry->so_linger = (uint32_t)linger.l_linger;
	}
	return NULL;
}

static struct error *save_device(int fd, struct socket_options *options)
{
	socklen_t size = sizeof(options->device);

	if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, options->device, &size) != 0)
		return error_new(errno, "getsockopt(SO_BINDTODEVICE)");
	options->device[sizeof(options->device) - 1] = '\0';
	if (size > 0 && options->device[0])
		options->entry.so_bound_dev = options->device;
	return NULL;
}

/* The size of a filter is counted in instructions, not bytes: sk_get_filter() of Linux. */
static struct error *save_filter(int fd, struct socket_options *options)
{
	socklen_t count = 0;

	if (getsockopt(fd, SOL_SOCKET, GET_FILTER, NULL, &count) != 0) {
		if (errno == EACCES)
			return error_new(EACCES, "a BPF program is attached to the socket (SO_ATTACH_BPF)");
		return error_new(errno, "getsockopt(SO_GET_FILTER)");
	}
	if (count == 0)
		return NULL;
	options->filter = xalloc(count * sizeof(struct sock_filter));
	if (getsockopt(fd, SOL_SOCKET, GET_FILTER, options->filter, &count) != 0)
		return error_new(errno, "getsockopt(SO_GET_FILTER, %u)", count);
	options->entry.so_filter = options->filter;
	options->entry.n_so_filter = count;
	return NULL;
}

struct error *socket_options_save(int fd, enum socket_traits traits, struct socket_options *options)
{
	sk_opts_entry__init(&options->entry);
	TRY(save_buffers(fd, &options->entry));
	TRY(save_times(fd, &options->entry));
	TRY(save_int_fields(fd, traits, &options->entry));
	if (!(traits & SOCKET_LOCAL))
		TRY(save_device(fd, options));
	return save_filter(fd, options);
}

static struct error *restore_int_fields(int fd, const SkOptsEntry *entry)
{
	for (size_t i = 0; i < int_field_count; i++) {
		const struct int_field *field = &int_fields[i];
		int wanted;
		int value;

		if (!take_field(entry, field, &wanted))
			continue;
		/* Some ask for privileges (SO_MARK), others exist for some kinds only: not touched if it is so already. */
		if (socket_get(fd, field->level, field->name, &value) == 0 && value == wanted)
			continue;
		TRY(socket_set(fd, field->level, field->name, wanted, field->label));
	}
	return NULL;
}

/* SO_BUF_LOCK can't be set there: a size that the program hasn't chosen has to stay what it is. */
static bool is_locked_for_ever(int fd, const SkOptsEntry *entry, uint32_t lock)
{
	int protocol = 0;

	return entry->has_so_buf_lock && !(entry->so_buf_lock & lock) &&
	       socket_get(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) == 0 && protocol == IPPROTO_MPTCP;
}

/* The kernel doubles what is set, for its own overhead: socket(7). */
static struct error *set_send_buffer(int fd, const SkOptsEntry *entry)
{
	if (is_locked_for_ever(fd, entry, SEND_LOCK))
		return NULL;
	return socket_set(fd, SOL_SOCKET, SO_SNDBUFFORCE, (int)(entry->so_sndbuf / 2), "SO_SNDBUFFORCE");
}

static struct error *restore_buffers(int fd, const SkOptsEntry *entry)
{
	if (entry->so_sndbuf > INT32_MAX || entry->so_rcvbuf > INT32_MAX)
		return error_new(EBADMSG, "socket buffers of %u and %u bytes", entry->so_sndbuf, entry->so_rcvbuf);
	TRY(set_send_buffer(fd, entry));
	if (is_locked_for_ever(fd, entry, RECEIVE_LOCK))
		return NULL;
	return socket_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, (int)(entry->so_rcvbuf / 2), "SO_RCVBUFFORCE");
}

static struct error *restore_times(int fd, const SkOptsEntry *entry)
{
	struct timeval send = {.tv_sec = (time_t)entry->so_snd_tmo_sec, .tv_usec = (time_t)entry->so_snd_tmo_usec};
	struct timeval receive = {.tv_sec = (time_t)entry->so_rcv_tmo_sec, .tv_usec = (time_t)entry->so_rcv_tmo_usec};
	struct linger linger = {.l_onoff = 1, .l_linger = (int)entry->so_linger};

	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send, sizeof(send)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &receive, sizeof(receive)) != 0)
		return error_new(errno, "setsockopt(SO_SNDTIMEO, SO_RCVTIMEO)");
	if (entry->has_so_linger && setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) != 0)
		return error_new(errno, "setsockopt(SO_LINGER)");
	return NULL;
}

struct error *socket_options_restore(int fd, const SkOptsEntry *entry)
{
	const char *device = entry->so_bound_dev;

	TRY(restore_buffers(fd, entry));
	TRY(restore_times(fd, entry));
	TRY(restore_int_fields(fd, entry));
	if (device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strnlen(device, IF_NAMESIZE)) != 0)
		return error_new(errno, "setsockopt(SO_BINDTODEVICE, %s)", device);
	return NULL;
}

static struct error *restore_filter(int fd, const SkOptsEntry *entry)
{
	struct sock_fprog program;

	if (entry->n_so_filter == 0)
		return NULL;
	if (entry->n_so_filter > BPF_MAXINSNS)
		return error_new(EBADMSG, "socket filter of %zu instructions", entry->n_so_filter);
	program.len = (unsigned short)entry->n_so_filter;
	program.filter = (struct sock_filter *)(void *)entry->so_filter;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0)
		return error_new(errno, "setsockopt(SO_ATTACH_FILTER, %u instructions)", program.len);
	return NULL;
}

struct error *socket_options_settle(int fd, const SkOptsEntry *entry)
{
	int locks = 0;

	TRY(set_send_buffer(fd, entry));
	if (entry->has_reuseaddr)
		TRY(socket_set(fd, SOL_SOCKET, SO_REUSEADDR, entry->reuseaddr, "SO_REUSEADDR"));
	/* Setting a size locks it. An image that doesn't say who chose it leaves it so. */
	if (entry->has_so_buf_lock && (socket_get(fd, SOL_SOCKET, BUF_LOCK, &locks) < 0 ||
	                               (uint32_t)locks != (entry->so_buf_lock & (SEND_LOCK | RECEIVE_LOCK))))
		TRY(socket_set(fd, SOL_SOCKET, BUF_LOCK, (int)(entry->so_buf_lock & (SEND_LOCK | RECEIVE_LOCK)),
		               "SO_BUF_LOCK"));
	return NULL;
}

struct error *socket_options_finish(int fd, const SkOptsEntry *entry)
{
	TRY(socket_options_settle(fd, entry));
	return restore_filter(fd, entry);
}
