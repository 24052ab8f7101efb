/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * timerfd_create(2): a timer behind a descriptor.
 *
 * Carried: clock, time left, interval, expirations that were not read yet. All of it is in fdinfo
 * (proc_pid_fdinfo(5)); the expirations are set by an ioctl (Linux 3.17).
 *
 * Trap: a timer that was set to a point in time is told as time left. For CLOCK_MONOTONIC that is the same point only as
 * long as the clock goes on; for CLOCK_REALTIME, whose jumps the timer has to follow, it is computed back.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>

#include "objects/objects.h"
#include "util/procfs.h"

#define TIMERFD_SET_TICKS _IOW('T', 0, uint64_t) /* TFD_IOC_SET_TICKS of timerfd_create(2) */

enum { NS_PER_SECOND = 1000000000 };

static bool timerfd_recognizes(const struct open_file *file)
{
	return strcmp(file->link, "anon_inode:[timerfd]") == 0;
}

static struct error *read_times(const char *fdinfo, TimerfdEntry *timer)
{
	const char *value = strstr(fdinfo, "it_value:");
	const char *interval = strstr(fdinfo, "it_interval:");

	if (!value || sscanf(value, "it_value: (%" SCNu64 ", %" SCNu64 ")", &timer->vsec, &timer->vnsec) != 2 ||
	    !interval || sscanf(interval, "it_interval: (%" SCNu64 ", %" SCNu64 ")", &timer->isec, &timer->insec) != 2)
		return error_new(EPROTO, "fdinfo of a timerfd");
	return NULL;
}

static struct error *timerfd_save(const struct open_file *file, struct image_store *store)
{
	TimerfdEntry timer = TIMERFD_ENTRY__INIT;
	FileEntry entry = FILE_ENTRY__INIT;
	uint64_t clock;
	uint64_t settime_flags;
	int r = procfs_number(file->fdinfo, "clockid", 10, &clock);

	if (r >= 0)
		r = procfs_number(file->fdinfo, "ticks", 10, &timer.ticks);
	if (r >= 0)
		r = procfs_number(file->fdinfo, "settime flags", 8, &settime_flags);
	if (r < 0)
		return error_new(-r, "clockid, ticks, settime flags in fdinfo");
	TRY(read_times(file->fdinfo, &timer));
	timer.id = file->id;
	timer.flags = file->status_flags;
	timer.fown = file->owner;
	timer.clockid = (uint32_t)clock;
	timer.settime_flags = (uint32_t)settime_flags;

	entry.type = FD_TYPES__TIMERFD;
	entry.id = file->id;
	entry.tfd = &timer;
	image_put(store, IMAGE_FILES, 0, &entry.base);
	return NULL;
}

static bool is_wall_clock(uint32_t clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM;
}

/* Only a timer on the wall clock needs the point in time: other clocks don't jump. */
static struct error *time_of(const TimerfdEntry *timer, struct itimerspec *ret_time, int *ret_flags)
{
	struct timespec now;

	if (timer->vnsec >= NS_PER_SECOND || timer->insec >= NS_PER_SECOND)
		return error_new(EBADMSG, "timerfd with %" PRIu64 " and %" PRIu64 " ns", timer->vnsec, timer->insec);
	*ret_time = (struct itimerspec){
		.it_value = {.tv_sec = (time_t)timer->vsec, .tv_nsec = (long)timer->vnsec},
		.it_interval = {.tv_sec = (time_t)timer->isec, .tv_nsec = (long)timer->insec},
	};
	*ret_flags = 0;
	if (!is_wall_clock(timer->clockid) || !(timer->settime_flags & TFD_TIMER_ABSTIME))
		return NULL;
	if (clock_gettime(CLOCK_REALTIME, &now) < 0)
		return error_new(errno, "clock_gettime");
	ret_time->it_value.tv_sec += now.tv_sec;
	ret_time->it_value.tv_nsec += now.tv_nsec;
	if (ret_time->it_value.tv_nsec >= NS_PER_SECOND) {
		ret_time->it_value.tv_sec++;
		ret_time->it_value.tv_nsec -= NS_PER_SECOND;
	}
	*ret_flags = (int)(timer->settime_flags & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET));
	return NULL;
}

static struct error *timerfd_restore(const FileEntry *entry, struct restore_files *restore, struct batch *batch,
                                     struct made_file *ret_made)
{
	const TimerfdEntry *timer = entry->tfd;
	struct itimerspec time;
	int flags;

	(void)restore;
	if (!timer)
		return error_new(EBADMSG, "file entry of type timerfd without a timerfd");
	TRY(time_of(timer, &time, &flags));
	struct arg fd = batch_call(batch, timerfd_create, val(timer->clockid), val(0));
	if (timer->vsec || timer->vnsec)
		batch_call(batch, timerfd_settime, fd, val((uint64_t)flags), batch_bytes(batch, &time, sizeof(time)),
		           val(0));
	if (timer->ticks)
		batch_call(batch, ioctl, fd, val(TIMERFD_SET_TICKS),
		           batch_bytes(batch, &timer->ticks, sizeof(timer->ticks)));
	*ret_made = (struct made_file){
		.local_fd = -1,
		.fd = fd,
		.status_flags = timer->flags & ~(uint32_t)O_ACCMODE,
		.owner = timer->fown,
	};
	return NULL;
}

const struct file_ops timerfd_ops = {
	.name = "timerfd",
	.type = FD_TYPES__TIMERFD,
	.recognizes = timerfd_recognizes,
	.save = timerfd_save,
	.restore = timerfd_restore,
};
