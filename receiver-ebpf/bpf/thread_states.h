// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Where the wall time of critical threads goes. Every move between states adds the time since the last one, so the
 * states sum to the wall time by construction. The moves of one thread never overlap: the scheduler makes them under
 * the lock of the thread's run queue. Does not decide which threads are critical.
 */
#ifndef BLAMEIO_THREAD_STATES_H
#define BLAMEIO_THREAD_STATES_H

#include "async.h"
#include "throttle.h"

static __always_inline int has_file(__u64 state)
{
	return state >= STATE_READ && state <= STATE_PREFETCH;
}

static __always_inline __u64 state_of(__u8 operation)
{
	switch (operation) {
	case OPERATION_READ:
	case OPERATION_FAULT:
		return STATE_READ;
	case OPERATION_WRITE:
	case OPERATION_EXTEND:
	case OPERATION_TRUNCATE:
	case OPERATION_BY_PATH:
		return STATE_WRITE;
	case OPERATION_FSYNC:
		return STATE_FSYNC;
	case OPERATION_PREFETCH:
		return STATE_PREFETCH;
	default:
		return STATE_WAIT;
	}
}

static __always_inline void add_thread_time(struct thread *thread, const struct thread_time_key *key, __u64 ns)
{
	__u64 *total = bpf_map_lookup_elem(&thread_time, key);
	__u64 none = 0;

	if (!total) {
		bpf_map_update_elem(&thread_time, key, &none, BPF_NOEXIST);
		total = bpf_map_lookup_elem(&thread_time, key);
	}
	if (total) {
		*total += ns;
		return;
	}
	if (key->state < STATES)
		thread->unkept_ns[key->state] += ns;
	count_lost(LOST_THREAD_TIME_FULL);
}

/* The exchanges are there for their ordering: a reader that sees the same even number twice saw one whole state. */
static __always_inline void write_begin(struct thread *thread)
{
	__sync_lock_test_and_set(&thread->sequence, thread->sequence + 1);
}

static __always_inline void write_end(struct thread *thread)
{
	__sync_lock_test_and_set(&thread->sequence, thread->sequence + 1);
}

/* What the thread is blocked in: the operation in its slot, else it waits for something that is not a file. */
static __always_inline void set_blocked(struct thread *thread, __u32 tid, const struct slot *slot)
{
	/* Of a page that is being read its end tells the index. Ends of requests come while the thread goes on. */
	thread->held = slot && slot->page && slot->operation == OPERATION_READ;
	if (slot && slot->operation == OPERATION_AWAIT)
		slot = oldest_request(tid);
	thread->state = slot ? state_of(slot->operation) : STATE_WAIT;
	if (slot) {
		thread->file = slot->file;
		thread->index = slot->index;
	}
}

/* The end of a read: its time is that of the page's index. Nothing else touches it while the thread runs. */
static __always_inline void held_ends(const struct slot *slot, __u32 tid)
{
	struct thread_time_key key = {.tid = tid, .index = slot->index, .file = slot->file, .state = STATE_READ};
	struct thread *thread = bpf_map_lookup_elem(&critical, &tid);

	if (!thread || !thread->held_ns)
		return;
	add_thread_time(thread, &key, thread->held_ns);
	thread->held_ns = 0;
}

static __always_inline void add_elapsed(struct thread *thread, __u32 tid)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 state = thread->state;
	struct thread_time_key key = {.tid = tid, .index = thread->index, .file = thread->file, .state = state};
	__u64 elapsed;

	/* Clocks of two processors may disagree by a little: never backwards. */
	if (now <= thread->since_ns || state >= STATES)
		return;
	elapsed = now - thread->since_ns;
	thread->since_ns = now;
	thread->state_ns[state] += elapsed;
	if (thread->held && state == STATE_READ)
		thread->held_ns += elapsed;
	else if (has_file(state))
		add_thread_time(thread, &key, elapsed);
}

/* Ends the time that a thread could have run and did not. */
static __always_inline void add_queued(struct thread *thread, struct task_struct *task)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 elapsed, throttled;

	if (now <= thread->since_ns)
		return;
	elapsed = now - thread->since_ns;
	throttled = throttled_part(thread, task, elapsed);
	thread->since_ns = now;
	thread->state_ns[STATE_THROTTLED] += throttled;
	thread->state_ns[STATE_RUNQUEUE] += elapsed - throttled;
}

static __always_inline int is_queued(const struct thread *thread)
{
	return thread->state == STATE_RUNQUEUE || thread->state == STATE_THROTTLED;
}

/* NULL if it is not watched, or has exited. */
static __always_inline struct thread *critical_thread(__u32 tid)
{
	__u32 word = tid / 64 % (CRITICAL_BITS / 64);
	__u64 *bits = bpf_map_lookup_elem(&critical_bits, &word);
	struct thread *thread;

	if (!bits || !(*bits >> (tid % 64) & 1))
		return NULL;
	thread = bpf_map_lookup_elem(&critical, &tid);
	return thread && thread->state != STATE_EXITED ? thread : NULL;
}

static __always_inline void operation_leaves_cpu(struct slot *slot, int runnable)
{
	slot->switched = 1;
	if (!slot->start_ns)
		slot->start_ns = bpf_ktime_get_ns();
	if (!runnable && slot->operation == OPERATION_READ)
		slot->reached |= REACHED_SLEPT;
}

static __always_inline void thread_leaves_cpu(struct task_struct *task, int runnable)
{
	struct slot *slot = task->bpf_storage ? slot_of(task) : NULL;
	__u32 tid = task->pid;
	struct thread *thread;

	if (slot && slot->operation != OPERATION_NONE)
		operation_leaves_cpu(slot, runnable);
	thread = critical_thread(tid);
	if (!thread)
		return;
	write_begin(thread);
	if (thread->state == STATE_UNKNOWN)
		thread->state = STATE_CPU;
	add_elapsed(thread, tid);
	if (runnable)
		thread->state = queued_state(thread, task);
	else
		set_blocked(thread, tid, slot);
	write_end(thread);
}

static __always_inline void thread_takes_cpu(struct task_struct *task)
{
	__u32 tid = task->pid;
	struct thread *thread = critical_thread(tid);

	if (!thread)
		return;
	write_begin(thread);
	if (thread->state == STATE_UNKNOWN)
		thread->state = STATE_RUNQUEUE;
	if (is_queued(thread))
		add_queued(thread, task);
	else
		add_elapsed(thread, tid);
	thread->state = STATE_CPU;
	write_end(thread);
}

/* A wakeup of a thread that has not left the processor, or is queued already, changes nothing. */
static __always_inline void thread_wakes(struct task_struct *task)
{
	__u32 tid = task->pid;
	struct thread *thread = critical_thread(tid);

	if (!thread || thread->state == STATE_CPU || is_queued(thread))
		return;
	if (thread->state == STATE_UNKNOWN && task->on_cpu)
		return;
	write_begin(thread);
	if (thread->state == STATE_UNKNOWN)
		set_blocked(thread, tid, slot_of(task));
	add_elapsed(thread, tid);
	thread->state = queued_state(thread, task);
	write_end(thread);
}

/* The totals stay until user space forgets the thread; a later thread of the same number adds nothing to them. */
static __always_inline void thread_exits(struct task_struct *task)
{
	__u32 tid = task->pid;
	struct thread *thread = critical_thread(tid);

	if (!thread)
		return;
	write_begin(thread);
	if (thread->state == STATE_UNKNOWN)
		thread->state = STATE_CPU;
	add_elapsed(thread, tid);
	thread->state = STATE_EXITED;
	write_end(thread);
}

#endif
