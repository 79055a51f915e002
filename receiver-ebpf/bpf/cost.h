// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What the probes take of the processors themselves: every run is counted, one of about a thousand is timed, and those
 * since the one that was timed before are taken to have taken as long.
 */
#ifndef BLAMEIO_COST_H
#define BLAMEIO_COST_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* In the order of src/cost.rs. */
enum program {
	PROGRAM_SYS_ENTER,
	PROGRAM_SYS_EXIT,
	PROGRAM_PAGE_FILLED,
	PROGRAM_FAULT,
	PROGRAM_PAGES_MAPPED,
	PROGRAM_PAGE_DIRTIED,
	PROGRAM_BIO_QUEUE,
	PROGRAM_BIO_COMPLETE,
	PROGRAM_REQUEST_COMPLETE,
	PROGRAM_SCHED_SWITCH,
	PROGRAM_SCHED_WAKEUP,
	PROGRAM_FORK,
	PROGRAM_EXIT,
	PROGRAM_URING_SUBMIT,
	PROGRAM_URING_COMPLETE,
	PROGRAMS,
};

struct cost {
	__u64 runs;
	__u64 next; /* the run that is timed next */
	__u64 timed; /* the run that was timed last */
	__u64 ns;    /* of all runs up to it */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PROGRAMS);
	__type(key, __u32);
	__type(value, struct cost);
} costs SEC(".maps");

/* A regular distance would meet the same half of a workload that does two things in turn. */
#define TIMED_DISTANCE_LEAST 512
#define TIMED_DISTANCE_SPREAD 1024
/* What took longer was interrupted, or its processor was taken away by the hypervisor: no work of ours. */
#define TIMED_NS_MOST 50000

/* The clock's own time, so that it can be taken off, and when the work began; 0: this run is not timed. */
struct stopwatch {
	struct cost *cost;
	__u64 clock_ns;
	__u64 start_ns;
};

static __always_inline struct stopwatch cost_begins(__u32 program)
{
	struct stopwatch watch = {.cost = bpf_map_lookup_elem(&costs, &program)};
	__u64 before;

	if (!watch.cost)
		return watch;
	watch.cost->runs += 1;
	if (watch.cost->runs < watch.cost->next)
		return watch;
	before = bpf_ktime_get_ns();
	watch.start_ns = bpf_ktime_get_ns();
	watch.clock_ns = watch.start_ns - before;
	return watch;
}

static __always_inline void cost_ends(const struct stopwatch *watch)
{
	struct cost *cost = watch->cost;
	__u64 ns;

	if (!cost || !watch->start_ns)
		return;
	ns = bpf_ktime_get_ns() - watch->start_ns;
	ns = ns > watch->clock_ns ? ns - watch->clock_ns : 0;
	if (ns > TIMED_NS_MOST)
		ns = TIMED_NS_MOST;
	cost->ns += ns * (cost->runs - cost->timed);
	cost->timed = cost->runs;
	cost->next = cost->runs + TIMED_DISTANCE_LEAST + bpf_get_prandom_u32() % TIMED_DISTANCE_SPREAD;
}

/* The function of a program, which is never without its cost. */
#define PROBE(function, tracepoint, program)                                                                           \
	static __always_inline void function##_body(__u64 *ctx);                                                       \
	SEC("tp_btf/" tracepoint) int function(__u64 *ctx)                                                             \
	{                                                                                                              \
		struct stopwatch watch = cost_begins(program);                                                         \
                                                                                                                       \
		function##_body(ctx);                                                                                  \
		cost_ends(&watch);                                                                                     \
		return 0;                                                                                              \
	}                                                                                                              \
	static __always_inline void function##_body(__u64 *ctx)

#endif
