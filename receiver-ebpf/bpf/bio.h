// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What a bio says of itself: include/linux/blk_types.h, the same since Linux 5.3. And whose pages it moves.
 */
#ifndef BLAMEIO_BIO_H
#define BLAMEIO_BIO_H

#include "file.h"

#define REQ_OP_MASK 0xff
#define REQ_OP_READ 0
#define REQ_OP_WRITE 1
/* Made of another one by a device that only passes on. */
#define BIO_CLONED (1 << 1)

/* include/linux/page-flags.h: a page that is not of a file. */
#define MAPPING_FLAGS 3

static __always_inline void identify_inode(struct inode *inode, struct file_id *id)
{
	__u64 span[INODE_SPAN / 8];
	struct super_block *super;

	if (IN_SPAN(inode, INODE_FROM, i_ino, INODE_SPAN) &&
	    IN_SPAN(inode, INODE_FROM, i_generation, INODE_SPAN + 4) &&
	    !bpf_probe_read_kernel(span, sizeof(span), (char *)inode + INODE_FROM)) {
		super = SPAN_FIELD(span, inode, INODE_FROM, i_sb);
		id->inode = SPAN_FIELD(span, inode, INODE_FROM, i_ino);
		id->generation = SPAN_FIELD(span, inode, INODE_FROM, i_generation);
	} else {
		super = BPF_CORE_READ(inode, i_sb);
		id->inode = BPF_CORE_READ(inode, i_ino);
		id->generation = BPF_CORE_READ(inode, i_generation);
	}
	id->device = BPF_CORE_READ(super, s_dev);
}

/* The beginning of a page and of a folio, up to whose they are. */
#define PAGE_SPAN 32

/* The inode whose cached pages a bio reads or writes; NULL if they are not of a file, or cannot be told. */
static __always_inline struct inode *inode_of_pages(struct bio *bio)
{
	struct address_space *mapping;
	__u64 span[PAGE_SPAN / 8];
	struct page *page;
	__u64 head;

	/* A clone has its original's pages: that is counted above, on the device that the file system knows. */
	if (bio->bi_flags & BIO_CLONED || !bio->bi_vcnt)
		return NULL;
	page = bio->bi_io_vec->bv_page;
	if (!page)
		return NULL;
	if (IN_HEAD(page, compound_head, PAGE_SPAN) && IN_HEAD(folio, mapping, PAGE_SPAN)) {
		if (bpf_probe_read_kernel(span, sizeof(span), page))
			return NULL;
		head = HEAD_FIELD(span, page, compound_head);
		mapping = HEAD_FIELD(span, folio, mapping);
	} else {
		head = BPF_CORE_READ(page, compound_head);
		mapping = BPF_CORE_READ((struct folio *)page, mapping);
	}
	if (head & 1)
		mapping = BPF_CORE_READ((struct folio *)(head - 1), mapping);
	if (!mapping || (__u64)mapping & MAPPING_FLAGS)
		return NULL;
	return BPF_CORE_READ(mapping, host);
}

#endif
