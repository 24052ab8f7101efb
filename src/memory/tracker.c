/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "image/pages.h"
#include "memory/dirty_scan.h"
#include "memory/page_hashes.h"
#include "memory/page_reader.h"
#include "memory/tracker.h"
#include "task/settle.h"
#include "util/alloc.h"
#include "util/clock.h"

/* Pages written in two rounds running are hot only where the rounds are as short as this: in a first, long round
 * almost every page in use is written, and most of them won't be in a short one. */
static const uint64_t hot_round_ns = 100000000;

struct tracker {
	pid_t pid;
	const struct dirty_way *way;
	struct dirty *dirty;          /* owned, of way */
	struct page_hashes *hashes;   /* owned: if the way knows nothing */
	struct ranges sent;           /* what the other end has, and is still mapped there */
	struct ranges unwritten;      /* in the last round */
	struct ranges last, hot;      /* what the last round sent, and what is left for the end */
	uint64_t began_ns, lasted_ns; /* the last round */
	unsigned rounds;
	bool sends_all; /* in the next round */
};

/* ---- Making it ---- */

static struct error *begin(struct process *process, const struct dirty_way *way, struct tracker *tracker)
{
	TRY(way->begin(process, &tracker->dirty), "track written pages by %s", way->name);
	tracker->way = way;
	return NULL;
}

/* A kernel, or a filter in the program, that doesn't let us is no reason to fail as long as there is another way. */
static struct error *begin_best(struct process *process, struct tracker *tracker)
{
	static const struct dirty_way *const ways[] = {&dirty_userfaultfd, &dirty_soft};

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		auto_error struct error *error = begin(process, ways[i], tracker);

		if (!error)
			return NULL;
		int errnum = error_errnum(error);
		if (errnum != EINVAL && errnum != ENOSYS && errnum != EPERM && errnum != EOPNOTSUPP)
			return take(error);
	}
	return begin(process, &dirty_hash, tracker);
}

static const struct dirty_way *way_of(enum track track)
{
	switch (track) {
	case TRACK_AUTO:
	case TRACK_USERFAULTFD:
		break;
	case TRACK_SOFT_DIRTY:
		return &dirty_soft;
	case TRACK_HASH:
		return &dirty_hash;
	}
	return &dirty_userfaultfd;
}

static struct tracker *make(pid_t pid)
{
	struct tracker *tracker = xalloc(sizeof(*tracker));

	tracker->pid = pid;
	tracker->hashes = page_hashes_new();
	return tracker;
}

struct error *tracker_new(struct process *process, enum track track, struct tracker **ret_tracker)
{
	auto_tracker struct tracker *tracker = make(process->pid);

	TRY(track == TRACK_AUTO ? begin_best(process, tracker) : begin(process, way_of(track), tracker));
	*ret_tracker = take(tracker);
	return NULL;
}

void tracker_free(struct tracker *tracker)
{
	if (!tracker)
		return;
	if (tracker->dirty)
		tracker->way->end(tracker->dirty);
	page_hashes_free(tracker->hashes);
	ranges_free(&tracker->sent);
	ranges_free(&tracker->unwritten);
	ranges_free(&tracker->last);
	ranges_free(&tracker->hot);
	free(tracker);
}

const char *tracker_way(const struct tracker *tracker)
{
	return tracker->way->name;
}

struct error *tracker_keep(struct tracker *tracker, struct tracker_kept *ret_kept)
{
	const struct dirty_way *way = tracker->way;

	if (!way->keep)
		return error_new(EOPNOTSUPP, "pages written between two commands can't be told by %s", way->name);
	ret_kept->track = way == &dirty_soft ? TRACK_SOFT_DIRTY : TRACK_USERFAULTFD;
	ret_kept->fd = way->keep(tracker->dirty);
	return NULL;
}

struct tracker *tracker_adopt(pid_t pid, const struct tracker_kept *kept)
{
	struct tracker *tracker = make(pid);

	tracker->way = way_of(kept->track);
	tracker->dirty = tracker->way->adopt(pid, kept->fd);
	tracker->rounds = 1;
	return tracker;
}

void tracker_keep_end(pid_t pid, struct tracker_kept *kept)
{
	const struct dirty_way *way = way_of(kept->track);

	if (way->keep_end && kept->fd >= 0)
		way->keep_end(pid, kept->fd);
	kept->fd = -1;
}

void tracker_send_all(struct tracker *tracker)
{
	tracker->sends_all = true;
}

static void forget(struct ranges *ranges, const struct ranges *gone)
{
	struct ranges left = ranges_without(ranges, gone);

	ranges_free(ranges);
	*ranges = left;
}

void tracker_forget(struct tracker *tracker, const struct ranges *gone)
{
	forget(&tracker->sent, gone);
	forget(&tracker->hot, gone);
	forget(&tracker->last, gone);
	page_hashes_forget(tracker->hashes, gone);
}

void tracker_begin_anew(struct tracker *tracker)
{
	ranges_free(&tracker->sent);
	ranges_free(&tracker->hot);
	ranges_free(&tracker->last);
	page_hashes_forget_all(tracker->hashes);
	tracker_send_all(tracker);
}

/* ---- A round ---- */

/* While a round is under way. The process may run: areas and pages may have gone since the list of areas was read. */
struct round {
	struct page_judge judge;
	struct tracker *tracker;
	struct page_sink *sink;
	struct page_reader reader;
	int mem_fd;      /* owned */
	bool is_by_hash; /* the area that is read now */
	struct ranges there, written, unwritten;
	size_t next_written, next_unwritten; /* of the ranges that lie before the area that is read now, or in it */
	struct ranges put;
};

static enum page_verdict judge_by_hash(struct round *round, uint64_t address, const void *bytes, bool is_zero)
{
	struct page_hashes *hashes = round->tracker->hashes;

	if (is_zero && !page_hashes_knows(hashes, address))
		return PAGE_SKIP;
	return page_hashes_note(hashes, address, bytes) ? PAGE_PUT : PAGE_KEEP;
}

/* A page of zeros may have been something else when it was sent; into a chain of images all goes that is something. */
static enum page_verdict judge_written(const struct round *round, bool is_zero)
{
	return is_zero && (round->tracker->rounds == 0 || round->sink->keep) ? PAGE_SKIP : PAGE_PUT;
}

static enum page_verdict judge(struct page_judge *judge, uint64_t address, const void *bytes, bool is_zero)
{
	struct round *round = (struct round *)(void *)judge;
	enum page_verdict verdict;

	if (!bytes)
		return PAGE_SKIP;
	verdict = round->is_by_hash ? judge_by_hash(round, address, bytes, is_zero) : judge_written(round, is_zero);
	if (verdict != PAGE_PUT)
		return verdict;
	ranges_append(&round->put, address, address + PAGE_BYTES);
	return PAGE_PUT;
}

static void round_free(struct round *round)
{
	page_reader_free(&round->reader);
	ranges_free(&round->there);
	ranges_free(&round->written);
	ranges_free(&round->unwritten);
	ranges_free(&round->put);
	if (round->mem_fd >= 0)
		close(round->mem_fd);
	free(round);
}
DEFINE_OWNED(struct round *, round_free)

/* The file stays with the address space that the process had when it was opened: after an exec, another one. */
static struct error *round_open(struct tracker *tracker, struct page_sink *sink, struct round *round)
{
	auto_free char *path = xformat("/proc/%d/mem", tracker->pid);

	round->tracker = tracker;
	round->sink = sink;
	round->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (round->mem_fd < 0)
		return error_new(errno, "open(%s)", path);
	round->judge.judge = judge;
	page_reader_init(&round->reader, tracker->pid, round->mem_fd, sink, &round->judge);
	return NULL;
}

/* ---- Looking ---- */

static struct ranges common(const struct ranges *ranges, const struct ranges *other)
{
	auto_ranges struct ranges only = ranges_without(ranges, other);

	return ranges_without(ranges, &only);
}

/* What was written in the last round, and has been again. */
static struct error *find_hot(struct tracker *tracker, const struct areas *areas)
{
	auto_ranges struct ranges written = {0};
	const struct look look = {.areas = areas, .ret_written = &written};

	if (tracker->rounds < 2 || tracker->lasted_ns > hot_round_ns || tracker->way->knows_nothing)
		return NULL;
	TRY(tracker->way->look(tracker->dirty, &look));
	auto_ranges struct ranges again = common(&written, &tracker->last);
	ranges_unite(&tracker->hot, &again);
	return NULL;
}

static bool has_shared(const struct areas *areas)
{
	for (size_t i = 0; i < areas->count; i++)
		if (area_content(&areas->list[i]) == AREA_CONTENT_SHARED)
			return true;
	return false;
}

/* From here on anew; what is left of hot pages is known. */
static struct error *look_anew(struct round *round, const struct areas *areas)
{
	struct tracker *tracker = round->tracker;
	bool needs_there = tracker->sends_all || (tracker->rounds > 0 && (round->sink->keep || has_shared(areas)));
	const struct look look = {
		.areas = areas,
		.is_beginning = true,
		.except = &tracker->hot,
		.ret_there = needs_there ? &round->there : NULL,
		.ret_written = &round->written,
	};

	if (!round->sink->keep)
		TRY(find_hot(tracker, areas));
	return tracker->way->look(tracker->dirty, &look);
}

static struct error *look_last(struct round *round, const struct areas *areas)
{
	struct tracker *tracker = round->tracker;
	const struct look both = {.areas = areas, .ret_there = &round->there, .ret_written = &round->written};
	const struct look look = {.areas = areas, .ret_written = &round->written};

	if (tracker->way->look_last) {
		TRY(tracker->way->look_last(tracker->dirty, &both));
	} else {
		TRY(tracker->way->look(tracker->dirty, &look));
		TRY(dirty_scan_there(tracker->pid, areas, &round->there));
	}
	auto_ranges struct ranges hot = common(&tracker->hot, &round->there);
	ranges_unite(&round->written, &hot);
	return NULL;
}

/* ---- Sending ---- */

/* The next of ranges that reaches into the area; clipped. False: there is none. */
static bool next_in_area(const struct ranges *ranges, size_t *next, const struct area *area, struct range *ret_range)
{
	while (*next < ranges->count && ranges->list[*next].end <= area->entry.start)
		++*next;
	if (*next == ranges->count || ranges->list[*next].start >= area->entry.end)
		return false;
	*ret_range = ranges->list[*next];
	if (ret_range->start < area->entry.start)
		ret_range->start = area->entry.start;
	if (ret_range->end > area->entry.end)
		ret_range->end = area->entry.end;
	return true;
}

static struct error *send_range(struct round *round, const struct range *range, bool is_written)
{
	size_t page_count = (range->end - range->start) / PAGE_BYTES;

	if (is_written)
		return page_reader_add(&round->reader, range->start, page_count);
	return round->sink->keep ? page_reader_tell(&round->reader, range->start, page_count, PAGE_KEEP) : NULL;
}

/* Both lists in the order of addresses. */
static struct error *send_private(struct round *round, const struct area *area)
{
	struct range written;
	struct range unwritten;

	for (;;) {
		bool has_written = next_in_area(&round->written, &round->next_written, area, &written);
		bool has_unwritten = next_in_area(&round->unwritten, &round->next_unwritten, area, &unwritten);
		bool is_written = has_written && (!has_unwritten || written.start < unwritten.start);

		if (!has_written && !has_unwritten)
			return NULL;
		TRY(send_range(round, is_written ? &written : &unwritten, is_written));
		/* One that reaches into the next area is needed there, too. */
		size_t *next = is_written ? &round->next_written : &round->next_unwritten;
		const struct ranges *ranges = is_written ? &round->written : &round->unwritten;
		if (ranges->list[*next].end > area->entry.end)
			return NULL;
		++*next;
	}
}

static struct error *send_vdso(struct round *round, const struct area *area)
{
	size_t page_count = (area->entry.end - area->entry.start) / PAGE_BYTES;
	auto_ranges struct ranges whole = {0};

	/* No scan tells of it. */
	ranges_append(&whole, area->entry.start, area->entry.end);
	ranges_unite(&round->there, &whole);
	if (round->tracker->rounds > 0 && !round->tracker->sends_all)
		return round->sink->keep ? page_reader_tell(&round->reader, area->entry.start, page_count, PAGE_KEEP)
		                         : NULL;
	return page_reader_add(&round->reader, area->entry.start, page_count);
}

/* Whatever is still to be read is judged as what it is. */
static struct error *begin_area(struct round *round, const struct area *area, bool is_by_hash)
{
	if (is_by_hash != round->is_by_hash)
		TRY(page_reader_flush(&round->reader));
	round->is_by_hash = is_by_hash;
	return page_reader_begin(&round->reader, area);
}

static struct error *send_area(struct round *round, const struct area *area)
{
	switch (area_content(area)) {
	case AREA_CONTENT_NONE:
	case AREA_CONTENT_SHARED:
		return NULL;
	case AREA_CONTENT_VDSO:
		TRY(begin_area(round, area, false));
		return send_vdso(round, area);
	case AREA_CONTENT_ANONYMOUS:
	case AREA_CONTENT_PRIVATE_FILE:
		TRY(begin_area(round, area, round->tracker->way->knows_nothing));
		return send_private(round, area);
	}
	return NULL;
}

static struct error *send_areas(struct round *round, const struct areas *areas)
{
	if (round->tracker->sends_all)
		ranges_unite(&round->written, &round->there);
	round->unwritten = ranges_without(&round->there, &round->written);
	for (size_t i = 0; i < areas->count; i++) {
		const struct area *area = &areas->list[i];

		TRY(send_area(round, area), "area %#" PRIx64 "-%#" PRIx64, area->entry.start, area->entry.end);
	}
	return page_reader_flush(&round->reader);
}

/* ---- The end of a round ---- */

static void note_round(struct tracker *tracker, struct round *round, uint64_t start_ns)
{
	ranges_unite(&tracker->sent, &round->put);
	ranges_free(&tracker->last);
	tracker->last = round->put;
	round->put = (struct ranges){0};
	ranges_free(&tracker->unwritten);
	if (tracker->way->knows_shared) {
		tracker->unwritten = round->unwritten;
		round->unwritten = (struct ranges){0};
	}
	tracker->lasted_ns = start_ns - tracker->began_ns;
	tracker->began_ns = start_ns;
	tracker->rounds++;
	tracker->sends_all = false;
}

static struct error *make_round(struct tracker *tracker, const struct areas *areas, struct page_sink *sink,
                                bool is_held)
{
	AUTO(round_free) struct round *round = xalloc(sizeof(*round));
	uint64_t start_ns = clock_now_ns();

	TRY(round_open(tracker, sink, round));
	TRY(look_anew(round, areas));
	if (tracker->way->misses_devices && !is_held)
		TRY(process_settle(tracker->pid));
	TRY(send_areas(round, areas));
	note_round(tracker, round, start_ns);
	return NULL;
}

struct error *tracker_round(struct tracker *tracker, const struct areas *areas, struct page_sink *sink)
{
	return make_round(tracker, areas, sink, false);
}

struct error *tracker_round_held(struct tracker *tracker, const struct areas *areas, struct page_sink *sink)
{
	return make_round(tracker, areas, sink, true);
}

static struct error *drop_gone(struct round *round)
{
	struct tracker *tracker = round->tracker;
	auto_ranges struct ranges gone = ranges_without(&tracker->sent, &round->there);

	for (size_t i = 0; i < gone.count; i++)
		TRY(round->sink->drop(round->sink, gone.list[i].start,
		                      (gone.list[i].end - gone.list[i].start) / PAGE_BYTES));
	forget(&tracker->sent, &gone);
	page_hashes_forget(tracker->hashes, &gone);
	return NULL;
}

/* It may turn out not to have been the last one. */
struct error *tracker_finish(struct tracker *tracker, const struct areas *areas, struct page_sink *sink)
{
	AUTO(round_free) struct round *round = xalloc(sizeof(*round));
	uint64_t start_ns = clock_now_ns();

	TRY(round_open(tracker, sink, round));
	TRY(look_last(round, areas));
	TRY(send_areas(round, areas));
	TRY(drop_gone(round));
	note_round(tracker, round, start_ns);
	return NULL;
}

const struct ranges *tracker_unwritten(const struct tracker *tracker)
{
	return &tracker->unwritten;
}

struct error *tracker_count(struct tracker *tracker, const struct areas *areas, uint64_t *ret_pages)
{
	auto_ranges struct ranges written = {0};
	const struct look look = {.areas = areas, .ret_written = &written};

	if (tracker->way->knows_nothing) {
		*ret_pages = ranges_bytes(&tracker->last) / PAGE_BYTES;
		return NULL;
	}
	TRY(tracker->way->look(tracker->dirty, &look));
	ranges_unite(&written, &tracker->hot);
	*ret_pages = ranges_bytes(&written) / PAGE_BYTES;
	return NULL;
}
