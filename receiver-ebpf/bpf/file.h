// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * From a descriptor number to a regular file, its identity and the tail of its name. Takes no locks: a file that is
 * closed or renamed meanwhile gives what a reader of freed memory gets, and probe_read does not fault on.
 */
#ifndef BLAMEIO_FILE_H
#define BLAMEIO_FILE_H

#include "maps.h"
#include "syscalls.h"
#include <bpf/bpf_core_read.h>

/* NULL if the current task has no such descriptor. */
static __always_inline struct file *file_of(__u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
	struct fdtable *table = task->files->fdt;
	struct file *file = NULL;

	if (fd >= table->max_fds)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), table->fd + fd);
	return file;
}

/* What is read of an inode. */
struct inode_view {
	struct super_block *super;
	__u64 inode;
	__u64 size;
	__u32 generation;
};

/* Every read through a helper costs as much as a lookup: the fields at the head of an inode come with one. */
#define HEAD 96
#define HEAD_OFFSET(field) bpf_core_field_offset(struct inode, field)
#define HEAD_FIELD(head, field) (*(typeof(((struct inode *)0)->field) *)((char *)(head) + HEAD_OFFSET(field)))

/* 0 if it is not a regular file. */
static __always_inline int view_file(struct file *file, struct inode_view *view)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u64 head[HEAD / 8];

	if (HEAD_OFFSET(i_mode) <= HEAD - 8 && HEAD_OFFSET(i_sb) <= HEAD - 8 && HEAD_OFFSET(i_ino) <= HEAD - 8 &&
	    HEAD_OFFSET(i_size) <= HEAD - 8) {
		if (bpf_probe_read_kernel(head, sizeof(head), inode))
			return 0;
		if ((HEAD_FIELD(head, i_mode) & S_IFMT) != S_IFREG)
			return 0;
		view->super = HEAD_FIELD(head, i_sb);
		view->inode = HEAD_FIELD(head, i_ino);
		view->size = HEAD_FIELD(head, i_size);
	} else { /* a kernel that shuffles its structs; the verifier removes one of the two ways */
		if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG)
			return 0;
		view->super = BPF_CORE_READ(inode, i_sb);
		view->inode = BPF_CORE_READ(inode, i_ino);
		view->size = BPF_CORE_READ(inode, i_size);
	}
	view->generation = BPF_CORE_READ(inode, i_generation);
	return 1;
}

static __always_inline void identify(const struct inode_view *view, struct file_id *id)
{
	struct super_block *super = view->super;

	id->device = BPF_CORE_READ(super, s_dev);
	id->generation = view->generation;
	id->inode = view->inode;
}

/* Reads the names from the leaf up. 0 if one cannot be read. */
static __always_inline int read_names(struct dentry *dentry, struct file_name *name)
{
	struct dentry *parent;
	int i;

	for (i = 0; i < NAMES; i++) {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (!parent || parent == dentry)
			break;
		if (bpf_probe_read_kernel_str(name->names[i], NAME_SIZE, BPF_CORE_READ(dentry, d_name.name)) <= 1)
			return 0;
		if (BPF_CORE_READ(dentry, d_name.hash_len) >> 32 >= NAME_SIZE)
			name->truncated |= 1 << i;
		name->depth = i + 1;
		dentry = parent;
	}
	return 1;
}

/*
 * Keeps the name of a file, or replaces it: a file is renamed, and an inode's next owner has the same identity on a
 * file system without generations.
 */
static __always_inline void remember_name(struct file *file, const struct file_id *id, struct naming *state,
					  __u32 epoch)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	/* Before the name: if a rename comes between, the next look finds a difference and reads again. */
	__u64 leaf = BPF_CORE_READ(dentry, d_name.hash_len);
	struct file_name *known = bpf_map_lookup_elem(&files, id), *name;
	__u32 zero = 0;
	long error;

	if (known ? known->leaf == leaf : state->full == epoch)
		return;
	name = bpf_map_lookup_elem(&scratch, &zero);
	if (!name)
		return;
	__builtin_memset(name, 0, sizeof(*name));
	name->leaf = leaf;
	if (!read_names(dentry, name)) {
		count_lost(LOST_NAME_UNREADABLE);
		return;
	}
	error = bpf_map_update_elem(&files, id, name, BPF_ANY);
	if (error == -E2BIG)
		state->full = epoch;
	else if (!error && known)
		__sync_fetch_and_add(&state->renamed, 1);
}

#endif
