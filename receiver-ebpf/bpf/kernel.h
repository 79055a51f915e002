// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The kernel structs that the probes read, each with only the fields they read. The loader moves every access to the
 * running kernel's own offsets (CO-RE), so order and padding here mean nothing.
 * No constants of system calls here: those are in syscalls.h.
 */
#ifndef BLAMEIO_KERNEL_H
#define BLAMEIO_KERNEL_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct inode {
	__u16 i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	__s64 i_size;
	__u32 i_generation;
	struct hlist_head i_dentry;
};

struct address_space {
	struct inode *host;
};

/* The flags are read by their place, the first: their type has changed. */
struct folio {
	struct address_space *mapping;
	unsigned long _flags_1; /* of large ones: the order in the lowest byte, since Linux 6.6 */
};

struct folio___6_18 {
	unsigned int _nr_pages;
};

struct folio___6_1 {
	unsigned int _folio_nr_pages;
};

enum pageflags {
	PG_head,
};

struct page {
	unsigned long compound_head; /* odd: one less is the address of the first page */
};

struct bio_vec {
	struct page *bv_page;
};

struct block_device {
	__u32 bd_dev;
};

struct bvec_iter {
	unsigned int bi_size;
};

struct bio {
	struct bio *bi_next;
	struct block_device *bi_bdev;
	unsigned int bi_opf;
	unsigned short bi_flags;
	struct bvec_iter bi_iter;
	unsigned short bi_vcnt;
	struct bio_vec *bi_io_vec;
};

struct request {
	struct bio *bio;
};

struct qstr {
	__u64 hash_len; /* hash below, length above 32 bits */
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct {
		struct hlist_node d_alias;
	} d_u;
};

struct path {
	struct dentry *dentry;
};

struct file {
	struct inode *f_inode;
	unsigned int f_flags;
	struct path f_path;
	__s64 f_pos;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
};

struct task_struct {
	unsigned int __state;
	unsigned int flags;
	int on_cpu;
	int pid;
	int tgid;
	struct files_struct *files;
	struct signal_struct *signal;
	struct bpf_local_storage *bpf_storage; /* NULL: no map has anything of the task */
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r10;
	unsigned long r9;
	unsigned long r8;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#endif

#pragma clang attribute pop

#endif
