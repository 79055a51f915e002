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

/* Keeps the name of a file that is counted for the first time. */
static __always_inline void remember_name(__u32 fd, const struct file_id *id)
{
	struct file_id now = {};
	struct file_name *name;
	struct dentry *dentry, *parent;
	struct inode_view view;
	struct file *file;
	__u32 zero = 0;
	long length;
	int i;

	if (bpf_map_lookup_elem(&files, id))
		return;
	name = bpf_map_lookup_elem(&scratch, &zero);
	if (!name)
		return;
	/* Another thread may have closed the descriptor since the operation began. */
	file = file_of(fd);
	if (!file || !view_file(file, &view)) {
		count_lost(LOST_NAME_UNREADABLE);
		return;
	}
	identify(&view, &now);
	if (now.device != id->device || now.generation != id->generation || now.inode != id->inode) {
		count_lost(LOST_NAME_UNREADABLE);
		return;
	}
	__builtin_memset(name, 0, sizeof(*name));
	dentry = BPF_CORE_READ(file, f_path.dentry);
	for (i = 0; i < NAMES; i++) {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (!parent || parent == dentry)
			break;
		length = bpf_probe_read_kernel_str(name->names[i], NAME_SIZE, BPF_CORE_READ(dentry, d_name.name));
		if (length <= 1) {
			count_lost(LOST_NAME_UNREADABLE);
			return;
		}
		if (length == NAME_SIZE)
			name->truncated |= 1 << i;
		name->depth = i + 1;
		dentry = parent;
	}
	if (bpf_map_update_elem(&files, id, name, BPF_NOEXIST) && !bpf_map_lookup_elem(&files, id))
		count_lost(LOST_FILES_FULL);
}

#endif
