// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What a bio says of itself: include/linux/blk_types.h, the same since Linux 5.3. And whose pages it moves.
 */
#ifndef BLAMEIO_BIO_H
#define BLAMEIO_BIO_H

#include "kernel.h"
#include "maps.h"
#include <bpf/bpf_core_read.h>

#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1
/* Made of another one by a device that only passes on. */
#define BIO_CLONED (1 << 1)

/* include/linux/page-flags.h: a page that is not of a file. */
#define MAPPING_FLAGS 3

static __always_inline void identify_inode(struct inode *inode, struct file_id *id)
{
	id->device = BPF_CORE_READ(inode, i_sb, s_dev);
	id->generation = BPF_CORE_READ(inode, i_generation);
	id->inode = BPF_CORE_READ(inode, i_ino);
}

/* The inode whose cached pages a bio reads or writes; NULL if they are not of a file, or cannot be told. */
static __always_inline struct inode *inode_of_pages(struct bio *bio)
{
	struct address_space *mapping;
	struct page *page;
	__u64 head;

	/* A clone has its original's pages: that is counted above, on the device that the file system knows. */
	if (bio->bi_flags & BIO_CLONED || !bio->bi_vcnt)
		return NULL;
	page = BPF_CORE_READ(bio, bi_io_vec, bv_page);
	if (!page)
		return NULL;
	head = BPF_CORE_READ(page, compound_head);
	if (head & 1)
		page = (struct page *)(head - 1);
	mapping = BPF_CORE_READ((struct folio *)page, mapping);
	if (!mapping || (__u64)mapping & MAPPING_FLAGS)
		return NULL;
	return BPF_CORE_READ(mapping, host);
}

#endif
