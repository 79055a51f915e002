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
static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = task->files->fdt;
	struct file *file = NULL;

	if (fd >= table->max_fds)
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), table->fd + fd);
	return file;
}

/* What is read of an open file and its inode. */
struct view {
	struct super_block *super;
	struct file *file; /* NULL: there is none */
	struct inode *host;
	__u64 inode;
	__u64 size;
	__u32 generation;
	__u32 flags;
};

/* Every read through a helper costs as much as a lookup: neighbouring fields come with one. */
#define INODE_HEAD 128
#define HEAD_OFFSET(type, field) bpf_core_field_offset(struct type, field)
/* Keeps the compiler from subtracting from a pointer to the stack, which the verifier forbids. */
static __always_inline void *in_span(void *span, __u64 at)
{
	barrier_var(at);
	return (char *)span + at;
}

#define IN_SPAN(type, from, field, size)                                                                               \
	(HEAD_OFFSET(type, field) >= (from) && HEAD_OFFSET(type, field) <= (from) + (size) - 8)
#define SPAN_FIELD(span, type, from, field)                                                                            \
	(*(typeof(((struct type *)0)->field) *)in_span(span, HEAD_OFFSET(type, field) - (from)))
#define IN_HEAD(type, field, size) IN_SPAN(type, 0, field, size)
#define HEAD_FIELD(head, type, field) SPAN_FIELD(head, type, 0, field)

/* 0 if it is not a regular file. The verifier removes the ways that the running kernel's structs do not need. */
static __always_inline int view_inode(struct inode *inode, struct view *view)
{
	__u64 head[INODE_HEAD / 8];

	view->host = inode;
	if (IN_HEAD(inode, i_mode, INODE_HEAD) && IN_HEAD(inode, i_sb, INODE_HEAD) &&
	    IN_HEAD(inode, i_ino, INODE_HEAD) && IN_HEAD(inode, i_size, INODE_HEAD)) {
		if (bpf_probe_read_kernel(head, sizeof(head), inode))
			return 0;
		if ((HEAD_FIELD(head, inode, i_mode) & S_IFMT) != S_IFREG)
			return 0;
		view->super = HEAD_FIELD(head, inode, i_sb);
		view->inode = HEAD_FIELD(head, inode, i_ino);
		view->size = HEAD_FIELD(head, inode, i_size);
		if (IN_HEAD(inode, i_generation, INODE_HEAD)) {
			view->generation = HEAD_FIELD(head, inode, i_generation);
			return 1;
		}
	} else {
		if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG)
			return 0;
		view->super = BPF_CORE_READ(inode, i_sb);
		view->inode = BPF_CORE_READ(inode, i_ino);
		view->size = BPF_CORE_READ(inode, i_size);
	}
	view->generation = BPF_CORE_READ(inode, i_generation);
	return 1;
}

#define FILE_SPAN 16
#define FILE_FROM HEAD_OFFSET(file, f_inode)
#define INODE_SPAN 88
#define INODE_FROM HEAD_OFFSET(inode, i_sb)

/* 1 if it is the file of the operation before, looking at as little as can tell it: mostly it is. */
static __always_inline int view_same(const struct slot *slot, struct inode *inode, struct view *view)
{
	__u64 span[INODE_SPAN / 8];

	if (slot->opened != (__u64)view->file || slot->host != (__u64)inode)
		return 0;
	if (!IN_SPAN(inode, INODE_FROM, i_ino, INODE_SPAN) || !IN_SPAN(inode, INODE_FROM, i_size, INODE_SPAN) ||
	    !IN_SPAN(inode, INODE_FROM, i_generation, INODE_SPAN + 4))
		return 0;
	if (bpf_probe_read_kernel(span, sizeof(span), (char *)inode + INODE_FROM))
		return 0;
	view->super = SPAN_FIELD(span, inode, INODE_FROM, i_sb);
	view->inode = SPAN_FIELD(span, inode, INODE_FROM, i_ino);
	view->size = SPAN_FIELD(span, inode, INODE_FROM, i_size);
	view->generation = SPAN_FIELD(span, inode, INODE_FROM, i_generation);
	return slot->super == (__u64)view->super && slot->file.inode == view->inode &&
	       slot->file.generation == view->generation;
}

/* 0 if it is not a regular file. */
static __always_inline int view_file(const struct slot *slot, struct file *file, struct view *view)
{
	__u64 span[FILE_SPAN / 8];
	struct inode *inode;

	view->file = file;
	if (IN_SPAN(file, FILE_FROM, f_flags, FILE_SPAN)) {
		if (bpf_probe_read_kernel(span, sizeof(span), (char *)file + FILE_FROM))
			return 0;
		inode = (struct inode *)span[0];
		view->flags = SPAN_FIELD(span, file, FILE_FROM, f_flags);
	} else {
		inode = BPF_CORE_READ(file, f_inode);
		view->flags = BPF_CORE_READ(file, f_flags);
	}
	return view_same(slot, inode, view) || view_inode(inode, view);
}

/* A name of an inode that is at hand without an open file; NULL if it has none. */
static __always_inline struct dentry *dentry_of(struct inode *inode)
{
	struct hlist_node *alias = BPF_CORE_READ(inode, i_dentry.first);

	if (!alias || !bpf_core_field_exists(((struct dentry *)0)->d_u.d_alias))
		return NULL;
	return (struct dentry *)((char *)alias - HEAD_OFFSET(dentry, d_u.d_alias));
}

static __always_inline __u8 medium_of(struct super_block *super)
{
	switch (BPF_CORE_READ(super, s_magic)) {
	case OVERLAYFS_SUPER_MAGIC:
		return MEDIUM_LAYERED;
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
		return MEDIUM_MEMORY;
	default:
		return MEDIUM_DISK;
	}
}

static __always_inline void identify(const struct view *view, struct file_id *id)
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
 * file system without generations. 0 if the kernel had no memory for it right now.
 */
static __always_inline int remember_name(struct dentry *dentry, const struct file_id *id,
					  struct naming *state, __u32 epoch)
{
	/* Before the name: if a rename comes between, the next look finds a difference and reads again. */
	__u64 leaf = BPF_CORE_READ(dentry, d_name.hash_len);
	struct file_name *known = bpf_map_lookup_elem(&files, id), *name;
	__u32 zero = 0;
	int error;

	if (known ? known->leaf == leaf : state->full == epoch)
		return 1;
	name = bpf_map_lookup_elem(&scratch, &zero);
	if (!name)
		return 1;
	__builtin_memset(name, 0, sizeof(*name));
	name->leaf = leaf;
	if (!read_names(dentry, name)) {
		count_lost(LOST_NAME_UNREADABLE);
		return 1;
	}
	error = bpf_map_update_elem(&files, id, name, BPF_ANY);
	if (error == -E2BIG)
		state->full = epoch;
	else if (!error && known)
		__sync_fetch_and_add(&state->renamed, 1);
	return error != -ENOMEM;
}

#endif
