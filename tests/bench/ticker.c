/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

/*
 * ticker: a program that feels how long it stood still, and whether its memory is whole.
 *
 *     ticker [-m MB] [-d MB_PER_S | -o MICROSECONDS] [-t THREADS] [-a AREAS] [-f DESCRIPTORS] [-c CONNECTIONS]
 *            [-l ADDRESS] DIR
 *
 * One thread looks at the clock every 200 us; a gap between two looks is a pause. Another writes to pages of MB of
 * memory (64) picked at random: as many as make MB_PER_S, or, with -o, one after each piece of work of so many
 * microseconds, without any pause, so that the writes in a time tell how fast the program gets on. The rest are
 * things for it to have: threads that sleep, areas of memory that can't merge, eventfds, connected pairs of TCP
 * sockets over loopback; with -l it also serves counters at port 6379 of ADDRESS (counter_server.h).
 *
 * Each page has a pattern of its own, and each write a number that is kept apart too: so a page that is missing, old,
 * or somebody else's shows.
 *
 * DIR/ready appears, with the PID, when all is set up. Each SIGUSR1 makes DIR/report-1, -2 ... and begins a new count
 * of pauses; SIGUSR2 does the same after checking all of the memory, which stops the writes for that time.
 */
#include <arpa/inet.h>
#include <err.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "counter_server.h"
#include "histogram.h"

#define PAGE_BYTES 4096
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))
#define TICK_NS 200000
#define PIECE_NS INT64_C(1000000)

struct ticker {
	const char *dir;
	const char *address; /* NULL: serve nothing */
	size_t pages;
	uint64_t dirty_pages_per_s;
	int64_t work_ns; /* 0: write at dirty_pages_per_s */
	unsigned int threads;
	unsigned int areas;
	unsigned int descriptors;
	unsigned int connections;
	uint64_t *memory;      /* pages pages */
	uint32_t *generations; /* of each page: how often it was written */
	uint64_t random;
	uint64_t written;
	pthread_mutex_t lock; /* guards memory, generations, written */
	pthread_mutex_t pauses_lock;
	pthread_cond_t looked;   /* with pauses_lock: looked_at_ns is another one */
	int64_t looked_at_ns;    /* until when pauses are known; under pauses_lock */
	struct histogram pauses; /* under pauses_lock, which nobody holds for long: waiting for it is no pause */
};

/* A word of the pattern: any two pages, words or generations differ (splitmix64). */
static uint64_t pattern(uint64_t page, uint64_t word, uint64_t generation)
{
	uint64_t x = page * PAGE_WORDS + word + (generation << 48) + 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* The word that the generation picks: another one each time. */
static void write_page(struct ticker *ticker, size_t page)
{
	uint32_t generation = ++ticker->generations[page];
	size_t word = generation % PAGE_WORDS;

	ticker->memory[page * PAGE_WORDS + word] = pattern(page, word, generation);
	ticker->written++;
}

/* Which generation wrote a word last: the latest one that picks it, 0 for the first filling. */
static uint64_t generation_of(uint32_t generation, size_t word)
{
	uint32_t back = (generation - (uint32_t)word) % PAGE_WORDS;

	return back >= generation ? 0 : generation - back;
}

static bool is_whole(const uint64_t *words, size_t page, uint32_t generation)
{
	for (size_t word = 0; word < PAGE_WORDS; word++)
		if (words[word] != pattern(page, word, generation_of(generation, word)))
			return false;
	return true;
}

static uint64_t count_corrupt(const struct ticker *ticker)
{
	uint64_t corrupt = 0;

	for (size_t page = 0; page < ticker->pages; page++)
		corrupt += !is_whole(ticker->memory + page * PAGE_WORDS, page, ticker->generations[page]);
	return corrupt;
}

static size_t random_page(struct ticker *ticker)
{
	ticker->random ^= ticker->random << 13;
	ticker->random ^= ticker->random >> 7;
	ticker->random ^= ticker->random << 17;
	return ticker->random % ticker->pages;
}

static void sleep_until(int64_t at_ns)
{
	struct timespec at = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void *tick(void *argument)
{
	struct ticker *ticker = argument;
	int64_t last_ns = clock_ns();

	for (;;) {
		usleep(TICK_NS / 1000);
		int64_t now_ns = clock_ns();

		pthread_mutex_lock(&ticker->pauses_lock);
		histogram_add(&ticker->pauses, now_ns - last_ns, now_ns);
		ticker->looked_at_ns = now_ns;
		pthread_cond_signal(&ticker->looked);
		pthread_mutex_unlock(&ticker->pauses_lock);
		last_ns = now_ns;
	}
	return NULL;
}

/* So many pages a second, in pieces of a millisecond. */
static void *write_at_rate(void *argument)
{
	struct ticker *ticker = argument;
	int64_t next_ns = clock_ns();
	uint64_t owed = 0;

	for (;;) {
		next_ns += PIECE_NS;
		sleep_until(next_ns);
		if (clock_ns() - next_ns > 100 * PIECE_NS)
			next_ns = clock_ns(); /* what was missed while standing still isn't made up for */
		pthread_mutex_lock(&ticker->lock);
		for (owed += ticker->dirty_pages_per_s; owed >= 1000; owed -= 1000)
			write_page(ticker, random_page(ticker));
		pthread_mutex_unlock(&ticker->lock);
	}
	return NULL;
}

static uint64_t work(uint64_t rounds)
{
	uint64_t x = rounds;

	for (uint64_t i = 0; i < rounds; i++)
		x = pattern(x, i, 0);
	return x;
}

/* Makes the compiler believe that the result is needed. */
static void keep(uint64_t result)
{
	__asm__ volatile("" : : "r"(result));
}

static uint64_t rounds_for(int64_t duration_ns)
{
	const uint64_t probe = 1000000;
	int64_t start_ns = clock_ns();

	keep(work(probe));
	return probe * (uint64_t)duration_ns / (uint64_t)(clock_ns() - start_ns);
}

static void *write_and_work(void *argument)
{
	struct ticker *ticker = argument;
	uint64_t rounds = rounds_for(ticker->work_ns);

	for (;;) {
		keep(work(rounds));
		pthread_mutex_lock(&ticker->lock);
		write_page(ticker, random_page(ticker));
		pthread_mutex_unlock(&ticker->lock);
	}
	return NULL;
}

static void *sleep_for_ever(void *argument)
{
	(void)argument;
	for (;;)
		pause();
	return NULL;
}

static void start_thread(void *(*function)(void *), void *argument)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	if (pthread_create(&thread, &attributes, function, argument) != 0)
		err(1, "thread");
	pthread_detach(thread);
}

static void fill_memory(struct ticker *ticker)
{
	ticker->memory = mmap(NULL, ticker->pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
	                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ticker->generations = calloc(ticker->pages, sizeof(*ticker->generations));
	if (ticker->memory == MAP_FAILED || !ticker->generations)
		err(1, "memory");
	for (size_t page = 0; page < ticker->pages; page++)
		for (size_t word = 0; word < PAGE_WORDS; word++)
			ticker->memory[page * PAGE_WORDS + word] = pattern(page, word, 0);
}

/* Of turns protection, so that no two neighbours merge. */
static void make_areas(unsigned int count)
{
	char *base = mmap(NULL, (size_t)(count + 1) * PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned int i = 0; i < count; i += 2)
		if (base == MAP_FAILED ||
		    mprotect(base + (size_t)i * PAGE_BYTES, PAGE_BYTES, PROT_READ | PROT_WRITE) != 0)
			err(1, "areas");
}

static void make_descriptors(unsigned int count)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (unsigned int i = 0; i < count; i++)
		if (eventfd(i + 2, EFD_CLOEXEC) < 0)
			err(1, "eventfd");
}

static void make_connections(unsigned int count)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listener = count ? socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;

	if (!count)
		return;
	if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 128) != 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &size) != 0)
		err(1, "listen");
	for (unsigned int i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (connect(fd, (struct sockaddr *)&address, size) != 0 ||
		    accept4(listener, NULL, NULL, SOCK_CLOEXEC) < 0)
			err(1, "connect");
	}
	close(listener);
}

static void put_file(const struct ticker *ticker, const char *name, const char *text)
{
	char path[4096];
	char draft[4096 + 4];

	snprintf(path, sizeof(path), "%s/%s", ticker->dir, name);
	snprintf(draft, sizeof(draft), "%s.new", path);
	FILE *file = fopen(draft, "we");
	if (!file || fputs(text, file) < 0 || fclose(file) != 0 || rename(draft, path) != 0)
		err(1, "%s", path);
}

/* With all that were over when this was called: the signal that asks may come before the thread that looks runs again. */
static struct histogram take_pauses(struct ticker *ticker)
{
	int64_t asked_ns = clock_ns();

	pthread_mutex_lock(&ticker->pauses_lock);
	while (ticker->looked_at_ns < asked_ns)
		pthread_cond_wait(&ticker->looked, &ticker->pauses_lock);
	struct histogram pauses = ticker->pauses;
	ticker->pauses = (struct histogram){0};
	pthread_mutex_unlock(&ticker->pauses_lock);
	return pauses;
}

static void report(struct ticker *ticker, unsigned int number, bool checks_memory)
{
	char name[32];
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	pthread_mutex_lock(&ticker->lock);
	if (checks_memory)
		fprintf(out, "{\"corrupt_pages\": %" PRIu64 ", ", count_corrupt(ticker));
	else
		fprintf(out, "{");
	fprintf(out, "\"now_ms\": %" PRId64 ", \"written_pages\": %" PRIu64 ", ", clock_ns() / 1000000,
	        ticker->written);
	ticker->written = 0;
	pthread_mutex_unlock(&ticker->lock);
	struct histogram pauses = take_pauses(ticker);
	histogram_json(&pauses, out);
	fprintf(out, "}\n");
	fclose(out);
	snprintf(name, sizeof(name), "report-%u", number);
	put_file(ticker, name, text);
	free(text);
}

static void parse_options(struct ticker *ticker, int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "m:d:o:t:a:f:c:l:")) != -1) {
		unsigned long value = optarg ? strtoul(optarg, NULL, 10) : 0;

		if (option == 'm')
			ticker->pages = value * 1048576 / PAGE_BYTES;
		else if (option == 'd')
			ticker->dirty_pages_per_s = value * 1048576 / PAGE_BYTES;
		else if (option == 'o')
			ticker->work_ns = (int64_t)value * 1000;
		else if (option == 't')
			ticker->threads = (unsigned int)value;
		else if (option == 'a')
			ticker->areas = (unsigned int)value;
		else if (option == 'f')
			ticker->descriptors = (unsigned int)value;
		else if (option == 'c')
			ticker->connections = (unsigned int)value;
		else if (option == 'l')
			ticker->address = optarg;
		else
			exit(2);
	}
	if (optind + 1 != argc || ticker->pages == 0)
		errx(2, "usage: see the head of ticker.c");
	ticker->dir = argv[optind];
}

static void set_up(struct ticker *ticker)
{
	make_descriptors(ticker->descriptors);
	make_connections(ticker->connections);
	make_areas(ticker->areas);
	fill_memory(ticker);
	for (unsigned int i = 0; i < ticker->threads; i++)
		start_thread(sleep_for_ever, NULL);
	if (ticker->address)
		counter_server_start(ticker->address, 6379);
	start_thread(tick, ticker);
	if (ticker->work_ns)
		start_thread(write_and_work, ticker);
	else if (ticker->dirty_pages_per_s)
		start_thread(write_at_rate, ticker);
}

int main(int argc, char **argv)
{
	static struct ticker ticker = {.pages = 64 * 1048576 / PAGE_BYTES, .random = 88172645463325252};
	char pid[16];
	sigset_t asked;

	parse_options(&ticker, argc, argv);
	pthread_mutex_init(&ticker.lock, NULL);
	pthread_mutex_init(&ticker.pauses_lock, NULL);
	pthread_cond_init(&ticker.looked, NULL);
	sigemptyset(&asked);
	sigaddset(&asked, SIGUSR1);
	sigaddset(&asked, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &asked, NULL);
	set_up(&ticker);
	snprintf(pid, sizeof(pid), "%d\n", getpid());
	put_file(&ticker, "ready", pid);
	for (unsigned int number = 1;;) {
		int signal = sigwaitinfo(&asked, NULL);

		if (signal > 0)
			report(&ticker, number++, signal == SIGUSR2);
	}
}
