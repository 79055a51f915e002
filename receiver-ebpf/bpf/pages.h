// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Which index a page of an InnoDB tablespace belongs to, by the page's own head in the buffer of the operation: a table
 * and its indexes share one file, so the file does not tell. What cannot be told is 0, never a guess.
 * The layout is storage/innobase/include/{fil0types.h,page0types.h} of MySQL and MariaDB; all numbers are big-endian.
 */
#ifndef BLAMEIO_PAGES_H
#define BLAMEIO_PAGES_H

#include "maps.h"
#include "syscalls.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

enum page_format {
	PAGES_NONE,
	PAGES_MYSQL,
	PAGES_MARIADB,
};

/* Values of `index` that are no index. */
#define INDEX_NONE 0	       /* not told, or a page that no index owns */
#define INDEX_BLOB 0xffffffff  /* large values: of the clustered index */
#define INDEX_HIDDEN 0xfffffffe /* compressed or encrypted by the page */

/* Where in a page: FIL_PAGE_TYPE, and PAGE_INDEX_ID in the head of an index page. */
#define PAGE_TYPE 24
#define PAGE_INDEX_ID (38 + 28)
/* The smallest page; what is shorter is none. */
#define PAGE_LEAST 1024

/* FIL_PAGE_TYPE. */
#define PAGE_BLOB 10
#define PAGE_ZBLOB2 12
#define PAGE_MYSQL_COMPRESSED 14
#define PAGE_MYSQL_ENCRYPTED_RTREE 17
#define PAGE_MARIADB_INSTANT 18
#define PAGE_MYSQL_LOB_INDEX 22
#define PAGE_MYSQL_ZLOB_FRAG_ENTRY 29
#define PAGE_RTREE 17854
#define PAGE_INDEX 17855
#define PAGE_MARIADB_COMPRESSED 0x8000 /* in all its formats */

/* The caller's memory is that of the current process. */
static __always_inline __u32 index_of_page(__u8 format, __u64 page)
{
	__u16 type;
	__u64 id;

	/* Two short reads, because the stack has no room for one long. */
	if (!page || bpf_probe_read_user(&type, sizeof(type), (void *)(page + PAGE_TYPE)))
		return INDEX_NONE;
	type = bpf_ntohs(type);
	if (type == PAGE_INDEX || type == PAGE_RTREE || (format == PAGES_MARIADB && type == PAGE_MARIADB_INSTANT)) {
		if (bpf_probe_read_user(&id, sizeof(id), (void *)(page + PAGE_INDEX_ID)))
			return INDEX_NONE;
		id = bpf_be64_to_cpu(id);
		/* Numbers are given one after the other: one this large is encrypted. */
		return id < INDEX_HIDDEN ? id : INDEX_HIDDEN;
	}
	if (type >= PAGE_BLOB && type <= PAGE_ZBLOB2)
		return INDEX_BLOB;
	if (format == PAGES_MYSQL) {
		if (type >= PAGE_MYSQL_LOB_INDEX && type <= PAGE_MYSQL_ZLOB_FRAG_ENTRY)
			return INDEX_BLOB;
		if (type >= PAGE_MYSQL_COMPRESSED && type <= PAGE_MYSQL_ENCRYPTED_RTREE)
			return INDEX_HIDDEN;
	} else if (type & PAGE_MARIADB_COMPRESSED) {
		return INDEX_HIDDEN;
	}
	return INDEX_NONE;
}

/* Whether a leaf's name ends in ".ibd". */
static __always_inline int is_tablespace(struct dentry *dentry)
{
	__u32 length = BPF_CORE_READ(dentry, d_name.hash_len) >> 32;
	char ending[4] = {};

	if (length <= sizeof(ending) ||
	    bpf_probe_read_kernel(ending, sizeof(ending), BPF_CORE_READ(dentry, d_name.name) + length - 4))
		return 0;
	return ending[0] == '.' && ending[1] == 'i' && ending[2] == 'b' && ending[3] == 'd';
}

/* What an operation reads into or writes from. */
enum buffer {
	BUFFER_NONE,
	BUFFER_FLAT,
	BUFFER_VECTOR, /* a list of them */
};

/* Keeps where the operation's first page is, and of one that is written whose it is. */
static __always_inline void page_begins(struct slot *slot, __u8 operation, enum buffer kind, __u64 buffer)
{
	slot->index = INDEX_NONE;
	slot->page = 0;
	if (!slot->tablespace || kind == BUFFER_NONE)
		return;
	if (kind == BUFFER_VECTOR && bpf_probe_read_user(&buffer, sizeof(buffer), (void *)buffer))
		return;
	if (operation == OPERATION_WRITE)
		slot->index = index_of_page(slot->pages, buffer);
	else if (operation == OPERATION_READ)
		slot->page = buffer;
}

/* Of one that was read. */
static __always_inline void page_ends(struct slot *slot, __s64 result)
{
	if (slot->page && result >= PAGE_LEAST)
		slot->index = index_of_page(slot->pages, slot->page);
	slot->page = 0;
}

#endif
