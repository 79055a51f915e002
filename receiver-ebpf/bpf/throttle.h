// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Bandwidth control of a CPU cgroup: whether a thread that could run is kept from it, and for how long. Up to Linux 6.17
 * a whole run queue is set aside, with its threads; from then on each thread by itself, on its way back to user space.
 */
#ifndef BLAMEIO_THROTTLE_H
#define BLAMEIO_THROTTLE_H

#include "kernel.h"
#include "maps.h"
#include <bpf/bpf_core_read.h>
#include <stdbool.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct rq___throttle {
	__u64 clock;
};

struct cfs_rq___throttle {
	struct rq___throttle *rq;
	int throttle_count;
	__u64 throttled_clock_self; /* these two from Linux 6.6 on */
	__u64 throttled_clock_self_time;
};

struct sched_entity___throttle {
	struct cfs_rq___throttle *cfs_rq;
};

struct task_struct___throttle {
	struct sched_entity___throttle se;
	bool throttled; /* from Linux 6.18 on */
};

#pragma clang attribute pop

#define THROTTLED_BY_THREAD bpf_core_field_exists(struct task_struct___throttle, throttled)

/* How long the run queue has been throttled since it was made. */
static __always_inline __u64 throttled_so_far(struct cfs_rq___throttle *queue)
{
	__u64 since, total;

	if (!bpf_core_field_exists(struct cfs_rq___throttle, throttled_clock_self_time))
		return 0;
	since = queue->throttled_clock_self;
	total = queue->throttled_clock_self_time;
	return since ? total + queue->rq->clock - since : total;
}

/* The state of a thread that begins to wait for a processor. */
static __always_inline __u64 queued_state(struct thread *thread, struct task_struct *task)
{
	struct task_struct___throttle *queued = (struct task_struct___throttle *)task;
	struct cfs_rq___throttle *queue;
	int throttled;

	if (!bpf_core_field_exists(struct cfs_rq___throttle, throttle_count))
		return STATE_RUNQUEUE; /* a kernel without bandwidth control */
	queue = queued->se.cfs_rq;
	thread->queue = (__u64)queue;
	thread->throttled_before = throttled_so_far(queue);
	if (THROTTLED_BY_THREAD)
		throttled = queued->throttled;
	else
		throttled = queue->throttle_count;
	return throttled ? STATE_THROTTLED : STATE_RUNQUEUE;
}

/* Of the time that a thread has waited for a processor: how much its cgroup's bandwidth took. */
static __always_inline __u64 throttled_part(const struct thread *thread, struct task_struct *task, __u64 elapsed)
{
	struct task_struct___throttle *queued = (struct task_struct___throttle *)task;
	__s64 throttled;

	/* Without clocks of the run queue, or when it is another processor's now: as it began. */
	if (!bpf_core_field_exists(struct cfs_rq___throttle, throttled_clock_self_time) ||
	    (__u64)queued->se.cfs_rq != thread->queue)
		return thread->state == STATE_THROTTLED ? elapsed : 0;
	/* A thread that is queued there can run all the same, until it is throttled itself. */
	if (THROTTLED_BY_THREAD && thread->state != STATE_THROTTLED)
		return 0;
	throttled = throttled_so_far(queued->se.cfs_rq) - thread->throttled_before;
	if (throttled <= 0)
		return 0;
	return (__u64)throttled < elapsed ? throttled : elapsed;
}

#endif
