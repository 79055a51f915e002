// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What of an operation reached the device, added up when it ends. What a page is, and whose.
 */
#ifndef BLAMEIO_DEVICE_H
#define BLAMEIO_DEVICE_H

#include "file.h"

static const struct device_row no_device;

static __always_inline __u64 folio_bytes(struct folio *folio)
{
	/* The flags: the first word, whatever its type is called. */
	__u64 flags = *(unsigned long *)folio;

	if (!(flags >> bpf_core_enum_value(enum pageflags, PG_head) & 1))
		return 1UL << PAGE_SHIFT;
	if (bpf_core_field_exists(((struct folio___6_18 *)0)->_nr_pages))
		return (__u64)((struct folio___6_18 *)folio)->_nr_pages << PAGE_SHIFT;
	if (bpf_core_field_exists(((struct folio___6_1 *)0)->_folio_nr_pages))
		return (__u64)((struct folio___6_1 *)folio)->_folio_nr_pages << PAGE_SHIFT;
	return 1UL << ((folio->_flags_1 & 31) + PAGE_SHIFT);
}

/* Whether pages of an inode are those of the slot's file: not metadata, nor another file that is read on the way. */
static __always_inline int is_of(const struct slot *slot, struct inode *host)
{
	if ((__u64)host->i_sb == slot->super && host->i_ino == slot->file.inode)
		return 1;
	return slot->medium == MEDIUM_LAYERED && (host->i_mode & S_IFMT) == S_IFREG;
}

static __always_inline struct device_row *device_row_of(const struct io_key *key)
{
	struct device_row *row = bpf_map_lookup_elem(&device, key);

	if (row)
		return row;
	bpf_map_update_elem(&device, key, &no_device, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&device, key);
	if (!row)
		count_lost(LOST_DEVICE_FULL);
	return row;
}

/* Without O_DIRECT the pages that it added. With it what it returned, unless the file system used the page cache. */
static __always_inline __u64 device_bytes(const struct slot *slot, __s64 result)
{
	if (!(slot->reached & REACHED_DIRECT) || slot->reached & (REACHED_FILLED | REACHED_DIRTIED))
		return slot->filled;
	return result > 0 ? result : 0;
}

static __always_inline void count_device(const struct io_key *key, const struct slot *slot, __u64 elapsed,
					 __s64 result)
{
	struct device_row *row = device_row_of(key);

	if (!row)
		return;
	if (slot->reached & ~REACHED_DIRTIED) {
		__sync_fetch_and_add(&row->operations, 1);
		__sync_fetch_and_add(&row->time_ns, elapsed);
		__sync_fetch_and_add(&row->bytes, device_bytes(slot, result));
	}
	if (slot->dirtied)
		__sync_fetch_and_add(&row->dirtied, slot->dirtied);
}

#endif
