// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Whose a bio is that the limit of a cgroup has held back. The block layer tells of it when a worker of the kernel sends
 * it on: the submitter is not at hand, but the bio knows its cgroup. So the cgroups in which watched processes work are
 * kept.
 */
#ifndef BLAMEIO_OWNER_H
#define BLAMEIO_OWNER_H

#include "bio.h"
#include "maps.h"
#include "syscalls.h"
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node___owner {
	__u64 id;
};

struct cgroup_root___owner {
	int hierarchy_id;
};

struct cgroup___owner {
	struct kernfs_node___owner *kn;
	struct cgroup_root___owner *root;
};

struct cgroup_subsys_state___owner {
	struct cgroup___owner *cgroup;
};

struct css_set___owner {
	struct cgroup_subsys_state___owner *subsys[1];
};

struct blkcg___owner {
	struct cgroup_subsys_state___owner css;
};

struct blkcg_gq___owner {
	struct blkcg___owner *blkcg;
};

struct bio___owner {
	struct blkcg_gq___owner *bi_blkg; /* with cgroups for I/O */
};

struct workqueue_struct___owner {
	char name[8];
};

struct pool_workqueue___owner {
	struct workqueue_struct___owner *wq;
};

struct worker___owner {
	struct pool_workqueue___owner *current_pwq;
};

struct kthread___owner {
	void *data;
};

struct task_struct___owner {
	unsigned int flags;
	void *worker_private;
	struct css_set___owner *cgroups;
};

enum cgroup_subsys_id___owner {
	io_cgrp_id___owner,
};

#pragma clang attribute pop

/* include/linux/sched.h, the same since Linux 5.8. */
#define PF_WQ_WORKER 0x00000020

/*
 * Of the hierarchy that limits I/O, in which the watched process was that reached the device; with the epoch of its slot,
 * so that user space can remove what is not true any more.
 */
GROWING_MAP(owners, BPF_MAP_TYPE_HASH, __u64, __u64, 1024);

/* To be called before the thread's operation submits. */
static __always_inline void remember_owner(struct slot *slot)
{
	struct task_struct___owner *task = (struct task_struct___owner *)bpf_get_current_task();
	struct cgroup_subsys_state___owner *state = NULL;
	__u64 cgroup, epoch = slot->epoch;
	char *set;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id___owner, io_cgrp_id___owner))
		return;
	set = (char *)BPF_CORE_READ(task, cgroups) + bpf_core_field_offset(struct css_set___owner, subsys);
	set += bpf_core_enum_value(enum cgroup_subsys_id___owner, io_cgrp_id___owner) * sizeof(state);
	if (bpf_probe_read_kernel(&state, sizeof(state), set) || slot->owner == (__u64)state)
		return;
	slot->owner = (__u64)state;
	cgroup = BPF_CORE_READ(state, cgroup, kn, id);
	if (bpf_map_update_elem(&owners, &cgroup, &epoch, BPF_ANY))
		count_lost(LOST_OWNERS_FULL);
}

/* Who pays for a bio; NULL without cgroups for I/O. */
static __always_inline struct cgroup___owner *cgroup_of(struct bio *queued)
{
	struct bio___owner *bio = (struct bio___owner *)queued;

	if (!bpf_core_field_exists(struct bio___owner, bi_blkg))
		return NULL;
	return BPF_CORE_READ(bio, bi_blkg, blkcg, css.cgroup);
}

/* 1 if the current thread sends on what the limit of a cgroup has held back. */
static __always_inline int sends_on(void)
{
	struct task_struct___owner *task = (struct task_struct___owner *)bpf_get_current_task_btf();
	struct workqueue_struct___owner *queue;
	struct kthread___owner *thread;
	struct worker___owner *worker;
	char name[8] = {};

	if (!(task->flags & PF_WQ_WORKER) || !bpf_core_field_exists(struct kthread___owner, data))
		return 0;
	thread = BPF_CORE_READ(task, worker_private);
	worker = BPF_CORE_READ(thread, data);
	queue = BPF_CORE_READ(worker, current_pwq, wq);
	BPF_CORE_READ_INTO(&name, queue, name);
	return !__builtin_memcmp(name, "kthrotld", sizeof(name));
}

/* Whether the pages of a bio are a file's on a disk: not memory that is read into or written from directly. */
static __always_inline int is_page_cache(struct inode *inode)
{
	if (!inode || (BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG)
		return 0;
	switch (BPF_CORE_READ(inode, i_sb, s_magic)) {
	case TMPFS_MAGIC: /* shared memory too */
	case RAMFS_MAGIC:
	case HUGETLBFS_MAGIC:
		return 0;
	default:
		return 1;
	}
}

/*
 * 1 if what was held back is a watched process's, and the file layer counts it. Of a cgroup that it shares with others, a
 * read of a file tells by the file; what goes past the page cache is taken for the watched one's.
 */
static __always_inline int is_of_watched(struct bio *bio)
{
	struct cgroup___owner *cgroup = cgroup_of(bio);
	struct inode *inode = inode_of_pages(bio);
	struct file_id file = {};
	__u64 id;

	if (!cgroup)
		return 0;
	id = BPF_CORE_READ(cgroup, kn, id);
	if (!bpf_map_lookup_elem(&owners, &id))
		return 0;
	if (!is_page_cache(inode))
		return 1;
	if ((bio->bi_opf & REQ_OP_MASK) != REQ_OP_READ)
		return 0; /* write-back of a file that no watched process made dirty */
	identify_inode(inode, &file);
	return bpf_map_lookup_elem(&files, &file) != NULL;
}

#endif
