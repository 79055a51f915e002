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
};

struct inode {
	__u16 i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	__s64 i_size;
	__u32 i_generation;
};

struct qstr {
	__u64 hash_len; /* hash below, length above 32 bits */
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
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
	int on_cpu;
	int pid;
	int tgid;
	struct files_struct *files;
	struct signal_struct *signal;
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
