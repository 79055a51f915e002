// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Write-back: who made pages dirty, and which file the block layer writes, in whatever context. Who is charged with what
 * is written is user space's to share out.
 */
#ifndef BLAMEIO_WRITEBACK_H
#define BLAMEIO_WRITEBACK_H

#include "async.h"
#include "bio.h"

/* From now on write-back of this inode is counted. */
static __always_inline void expect_write_back(const struct file_id *host, const struct file_id *file)
{
	struct write_back row = {.file = *file};
	int error;

	if (bpf_map_lookup_elem(&write_back, host))
		return;
	error = bpf_map_update_elem(&write_back, host, &row, BPF_NOEXIST);
	if (error && error != -EEXIST)
		count_lost(LOST_WRITE_BACK_FULL);
}

/* A page was clean and is dirty now. */
static __always_inline void page_dirtied(struct folio *folio, struct address_space *mapping)
{
	struct slot *slot = working_slot();
	struct io_key key = {.operation = OPERATION_WRITE};
	struct device_row *row;
	struct inode *host;
	struct file_id id;

	if (!slot || !slot->watched || !mapping)
		return;
	host = mapping->host;
	if (!host || (host->i_mode & S_IFMT) != S_IFREG)
		return;
	id.device = host->i_sb->s_dev;
	id.generation = host->i_generation;
	id.inode = host->i_ino;
	switch (slot->operation) {
	case OPERATION_WRITE:
	case OPERATION_EXTEND:
	case OPERATION_TRUNCATE:
		if (!is_of(slot, host))
			return;
		slot->dirtied += folio_bytes(folio);
		slot->reached |= REACHED_DIRTIED;
		expect_write_back(&id, &slot->file);
		return;
	case OPERATION_NONE: /* through a mapping, or by a call that is no operation */
	case OPERATION_FAULT:
		key.file = id;
		key.server = slot->server;
		key.role = slot->role;
		if (slot->critical)
			key.tid = bpf_get_current_pid_tgid();
		row = device_row_of(&key);
		if (row)
			__sync_fetch_and_add(&row->dirtied, folio_bytes(folio));
		expect_write_back(&id, &id);
		return;
	default: /* an fsync that could not write a page marks it again */
		return;
	}
}

/* 1 if it is write-back of a file that is counted. */
static __always_inline int writeback_bio_queued(struct bio *bio)
{
	struct inode *inode = (bio->bi_opf & REQ_OP_MASK) == REQ_OP_WRITE ? inode_of_pages(bio) : NULL;
	struct write_back_bio flight = {};
	__u64 address = (__u64)bio;
	struct write_back *row;

	if (!inode)
		return 0;
	identify_inode(inode, &flight.host);
	row = bpf_map_lookup_elem(&write_back, &flight.host);
	if (!row)
		return 0;
	__sync_fetch_and_add(&row->operations, 1);
	__sync_fetch_and_add(&row->bytes, bio->bi_iter.bi_size);
	flight.start_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&write_back_bios, &address, &flight, BPF_ANY))
		count_lost(LOST_BIOS_FULL);
	return 1;
}

/* 1 if it was one. */
static __always_inline int writeback_bio_completed(__u64 address)
{
	struct write_back_bio *flight = bpf_map_lookup_elem(&write_back_bios, &address);
	struct write_back *row;

	if (!flight)
		return 0;
	row = bpf_map_lookup_elem(&write_back, &flight->host);
	if (row)
		__sync_fetch_and_add(&row->time_ns, bpf_ktime_get_ns() - flight->start_ns);
	bpf_map_delete_elem(&write_back_bios, &address);
	return 1;
}

#endif
