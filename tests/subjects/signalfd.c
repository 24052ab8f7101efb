/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/* signalfd(2) from the inside: its mask, and a real-time signal with a value that waits to be read. */
#include <errno.h>
#include <fcntl.h>
#include <sys/signalfd.h>

#include "subject.h"

enum { VALUE = 0x1234567 };

int main(int argc, char **argv)
{
	struct subject subject = subject_begin(argc, argv);
	struct signalfd_siginfo info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0 || sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = VALUE}) != 0)
		subject_fail(&subject, "set-up: errno %d", errno);

	subject_ready(&subject);

	if (read(fd, &info, sizeof(info)) != sizeof(info))
		subject_fail(&subject, "no signal: errno %d", errno);
	if (info.ssi_signo != (uint32_t)SIGRTMIN + 3 || info.ssi_int != VALUE || info.ssi_pid != (uint32_t)getpid())
		subject_fail(&subject, "signal %u, value %x, from %u", info.ssi_signo, info.ssi_int, info.ssi_pid);
	if (read(fd, &info, sizeof(info)) >= 0 || errno != EAGAIN)
		subject_fail(&subject, "a second signal, or errno %d", errno);
	if (fcntl(fd, F_GETFD) != FD_CLOEXEC || !(fcntl(fd, F_GETFL) & O_NONBLOCK))
		subject_fail(&subject, "flags changed");
	return subject_pass(&subject);
}
