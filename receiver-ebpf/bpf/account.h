// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The account of one operation, from the moment it begins to its return value. Knows nothing of where it is called
 * from: any provider that can tell begin, end and file may use it.
 */
#ifndef BLAMEIO_ACCOUNT_H
#define BLAMEIO_ACCOUNT_H

#include "file.h"
#include "histogram.h"

static const struct slot no_slot;
static const struct io_row no_io;

/* The slot of a thread of a watched process, made at its first operation. */
static __always_inline struct slot *make_slot(__u32 tid)
{
	struct slot *slot;

	bpf_map_update_elem(&threads, &tid, &no_slot, BPF_NOEXIST);
	slot = bpf_map_lookup_elem(&threads, &tid);
	if (!slot)
		count_lost(LOST_THREADS_FULL);
	return slot;
}

/* Keeps in the slot what user space says of a thread. The epoch must have been read before the process. */
static __always_inline void join(struct slot *slot, __u32 tid, const struct process *process, __u32 epoch)
{
	struct thread *thread = bpf_map_lookup_elem(&critical, &tid);

	slot->server = process->server;
	slot->role = process->role;
	slot->critical = thread && thread->state != STATE_EXITED;
	slot->epoch = epoch;
}

/* A write that goes past the end the file had when it began is an extend, whatever another writer did meanwhile. */
static __always_inline __u8 final_operation(const struct slot *slot, __s64 result)
{
	if (slot->operation != OPERATION_WRITE)
		return slot->operation;
	if (result > 0)
		return slot->position + result > slot->size ? OPERATION_EXTEND : OPERATION_WRITE;
	/* A failed one at or after the end tried to; one of no bytes did not. */
	return result < 0 && slot->position >= slot->size ? OPERATION_EXTEND : OPERATION_WRITE;
}

static __always_inline struct io_row *overflow_row(const struct io_key *key)
{
	struct overflow_key small = {.server = key->server, .role = key->role, .operation = key->operation};
	struct io_row *row;

	count_lost(LOST_IO_FULL);
	row = bpf_map_lookup_elem(&overflow, &small);
	if (row)
		return row;
	bpf_map_update_elem(&overflow, &small, &no_io, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&overflow, &small);
	if (!row)
		count_lost(LOST_OVERFLOW_FULL);
	return row;
}

static __always_inline struct io_row *row_of(const struct io_key *key, __u32 fd)
{
	struct io_row *row = bpf_map_lookup_elem(&io, key);

	if (row)
		return row;
	bpf_map_update_elem(&io, key, &no_io, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&io, key);
	if (!row)
		return overflow_row(key);
	remember_name(fd, &key->file);
	return row;
}

static __always_inline void account_begin(struct slot *slot, __u32 fd, const struct inode_view *view, __u8 operation)
{
	/* Mostly the file of the operation before. */
	if (slot->super != (__u64)view->super || slot->file.inode != view->inode ||
	    slot->file.generation != view->generation) {
		identify(view, &slot->file);
		slot->super = (__u64)view->super;
	}
	slot->fd = fd;
	slot->start_ns = bpf_ktime_get_ns();
	/* Last: from here on the scheduler's probe sees the operation. */
	slot->operation = operation;
}

static __always_inline void account_end(struct slot *slot, __u32 tid, __s64 result)
{
	__u64 elapsed = bpf_ktime_get_ns() - slot->start_ns;
	__u8 operation = final_operation(slot, result);
	struct io_key key = {.file = slot->file, .server = slot->server, .role = slot->role, .operation = operation};
	struct duration_key duration = {.file = slot->file, .server = slot->server, .operation = operation};
	struct io_row *row;

	slot->operation = OPERATION_NONE;
	if (slot->critical)
		key.tid = tid;
	row = row_of(&key, slot->fd);
	if (row) {
		row->operations += 1;
		row->time_ns += elapsed;
		if (result < 0)
			row->errors += 1;
		else
			row->bytes += slot->amount ? slot->amount : (__u64)result;
	}
	count_duration(&duration, elapsed);
}

#endif
