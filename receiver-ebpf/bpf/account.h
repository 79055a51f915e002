// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The account of one operation, from the moment it begins to its return value. Knows nothing of where it is called
 * from: any provider that can tell begin, end and file may use it.
 */
#ifndef BLAMEIO_ACCOUNT_H
#define BLAMEIO_ACCOUNT_H

#include "device.h"
#include "histogram.h"
#include "owner.h"
#include "pages.h"
#include "slot.h"

static const struct io_row no_io;

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

static __always_inline struct io_row *row_of(const struct io_key *key)
{
	struct io_row *row = bpf_map_lookup_elem(&io, key);
	struct naming *state;

	if (row)
		return row;
	bpf_map_update_elem(&io, key, &no_io, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&io, key);
	if (!row)
		return overflow_row(key);
	state = the_naming();
	if (state && state->full == current_epoch() && !bpf_map_lookup_elem(&files, &key->file))
		count_lost(LOST_FILES_FULL);
	return row;
}

/* Of which file the operation is that begins. */
static __always_inline void turn_to(struct slot *slot, const struct view *view)
{
	struct naming *state = the_naming();
	struct file *file = view->file;
	struct dentry *dentry;

	/* Mostly the file of the operation before, and nothing has happened since that could give it another name. */
	if (!state || (slot->super == (__u64)view->super && slot->file.inode == view->inode &&
		       slot->file.generation == view->generation && slot->opened == (__u64)view->file &&
		       slot->moves == (__u32)state->moves))
		return;
	slot->moves = state->moves;
	identify(view, &slot->file);
	if (slot->super != (__u64)view->super)
		slot->medium = medium_of(view->super);
	slot->super = (__u64)view->super;
	slot->opened = (__u64)view->file;
	/* What was seen to be the same has not been looked at. */
	if (view->host)
		slot->host = (__u64)view->host;
	dentry = file ? BPF_CORE_READ(file, f_path.dentry) : dentry_of(view->host);
	slot->tablespace = slot->pages && dentry && is_tablespace(dentry);
	if (dentry && !remember_name(dentry, &slot->file, state, slot->epoch))
		slot->super = 0; /* the next operation tries again */
}

/* Whether the next read of so many bytes can be taken to last as long as one before. */
static __always_inline int goes_untimed(struct slot *slot, __u64 asked)
{
	if (!slot->quick_left || slot->quick_asked != asked) {
		slot->quick_left = 0;
		slot->quick_asked = asked;
		return 0;
	}
	slot->quick_left -= 1;
	return 1;
}

/* The clock is read from the moment on that something slow begins. */
static __always_inline void time_from_now(struct slot *slot)
{
	if (!slot->start_ns)
		slot->start_ns = bpf_ktime_get_ns();
}

static __always_inline __u64 elapsed_of(struct slot *slot, __u8 operation, __s64 result)
{
	__u64 elapsed;

	if (!slot->start_ns)
		return slot->quick_ns;
	elapsed = bpf_ktime_get_ns() - slot->start_ns;
	if (operation == OPERATION_READ && !slot->reached && !slot->switched && result > 0) {
		slot->quick_ns = elapsed;
		slot->quick_left = QUICK_UNTIMED;
	}
	return elapsed;
}

/* What is known of an operation before it begins, by the flags of its file and its own (RWF_). */
static __always_inline __u8 reaches(__u8 operation, __u32 file_flags, __u32 flags)
{
	__u8 reached = 0;

	if (operation == OPERATION_FSYNC)
		return REACHED_SYNCED;
	if (operation != OPERATION_READ && operation != OPERATION_WRITE)
		return 0;
	if (file_flags & O_DIRECT)
		reached |= REACHED_DIRECT;
	if (operation == OPERATION_WRITE && (file_flags & O_DSYNC || flags & (RWF_DSYNC | RWF_SYNC)))
		reached |= REACHED_SYNCED;
	return reached;
}

/* `reached` is what is known already. */
static __always_inline void account_begin(struct slot *slot, __u8 operation, __u8 reached, int untimed)
{
	slot->filled = 0;
	slot->dirtied = 0;
	slot->reached = slot->medium == MEDIUM_MEMORY ? 0 : reached;
	slot->switched = 0;
	if (slot->reached & REACHED_DIRECT)
		remember_owner(slot);
	slot->start_ns = untimed ? 0 : bpf_ktime_get_ns();
	/* Last: from here on the other probes see the operation. */
	slot->operation = operation;
}

static __always_inline void by_path_begin(struct slot *slot)
{
	slot->file = (struct file_id){};
	slot->super = 0;
	slot->tablespace = 0;
	page_begins(slot, OPERATION_BY_PATH, BUFFER_NONE, 0);
	slot->operation = OPERATION_BY_PATH;
}

static __always_inline void by_path_end(struct slot *slot, __s64 result)
{
	struct naming *state = the_naming();

	slot->operation = OPERATION_NONE;
	if (state && !result)
		__sync_fetch_and_add(&state->moves, 1);
}

static __always_inline void account_end(struct slot *slot, __u32 tid, __s64 result)
{
	__u8 operation = final_operation(slot, result);
	__u64 elapsed = elapsed_of(slot, operation, result);
	struct io_key key = {.file = slot->file, .server = slot->server, .role = slot->role, .operation = operation};
	struct duration_key duration = {.file = slot->file, .server = slot->server, .operation = operation};
	struct io_row *row;

	page_ends(slot, result);
	key.index = slot->index;
	duration.index = slot->index;
	slot->operation = OPERATION_NONE;
	if (slot->critical)
		key.tid = tid;
	row = row_of(&key);
	if (row) {
		row->operations += 1;
		row->time_ns += elapsed;
		if (result < 0)
			row->errors += 1;
		else
			row->bytes += slot->amount ? slot->amount : (__u64)result;
	}
	count_duration(&duration, elapsed);
	if (slot->reached)
		count_device(&key, slot, elapsed, result);
}

#endif
