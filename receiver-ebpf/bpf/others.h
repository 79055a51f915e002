// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Everyone who is not watched, at the block layer: how long the bios of whom are in flight on which device. Each bio
 * counts once, at the device that its submitter named; whoever only passes it on is left out.
 */
#ifndef BLAMEIO_OTHERS_H
#define BLAMEIO_OTHERS_H

#include "bio.h"
#include "owner.h"
#include <bpf/bpf_core_read.h>

enum other_kind {
	OTHER_PROCESS,
	OTHER_KERNEL,	  /* a thread of the kernel, by its command */
	OTHER_WRITE_BACK, /* pages that somebody has dirtied before */
};

#define ROOT_CGROUP 1
#define COMMAND 16
struct other_key {
	__u32 device; /* dev_t of the disk or partition */
	__u32 kind;
	__u64 cgroup;	       /* of the unified hierarchy */
	char command[COMMAND]; /* when that is the root, else empty */
};

struct other_row {
	__u64 time_ns;
	__u64 operations;
	__u64 bytes;
};

/* A bio in flight. */
struct flight {
	struct other_key key;
	__u64 start_ns;
	__u64 bytes;
};

MAP(flights, BPF_MAP_TYPE_HASH, __u64, struct flight, 8192);
MAP(others, BPF_MAP_TYPE_HASH, struct other_key, struct other_row, 1024);
/* What finds no room, by device. */
MAP(others_overflow, BPF_MAP_TYPE_HASH, __u32, struct other_row, 64);

static const struct other_row no_other;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct task_struct___others {
	unsigned int flags;
	char comm[COMMAND];
	struct task_struct___others *group_leader;
};

#pragma clang attribute pop

/* include/linux/sched.h, the same since Linux 5.8. */
#define PF_MEMALLOC_NOIO 0x00080000
#define PF_LOCAL_THROTTLE 0x00100000
#define PF_KTHREAD 0x00200000
/* What a worker of a loop device has on while it serves a request, and nobody else. */
#define PF_LOOP (PF_KTHREAD | PF_WQ_WORKER | PF_LOCAL_THROTTLE | PF_MEMALLOC_NOIO)

/* In the unified hierarchy, of what a thread does for others. */
static __always_inline __u64 charged_cgroup(struct bio *bio)
{
	struct cgroup___owner *cgroup = cgroup_of(bio);

	/* In a hierarchy of its own, as in version 1, write-back does not know whom it writes for. */
	if (!cgroup || BPF_CORE_READ(cgroup, root, hierarchy_id))
		return ROOT_CGROUP;
	return BPF_CORE_READ(cgroup, kn, id);
}

/* Of what a thread of the kernel sends on for others, or does itself. */
static __always_inline __u32 kind_of_kernel(struct bio *bio, unsigned int flags, int held_back, __u64 cgroup)
{
	if ((bio->bi_opf & REQ_OP_MASK) == REQ_OP_WRITE && flags & PF_WQ_WORKER &&
	    (!held_back || is_page_cache(inode_of_pages(bio))))
		return OTHER_WRITE_BACK;
	return held_back && cgroup != ROOT_CGROUP ? OTHER_PROCESS : OTHER_KERNEL;
}

static __always_inline void others_bio_queued(struct bio *bio, int held_back)
{
	struct task_struct___others *task = (struct task_struct___others *)bpf_get_current_task_btf();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	unsigned int flags, operation = bio->bi_opf & REQ_OP_MASK;
	__u64 address = (__u64)bio;
	struct flight flight = {};

	/* The file layer counts what watched processes do. */
	if (bpf_map_lookup_elem(&processes, &tgid))
		return;
	/* Counted where it was before dm or md passed it on. */
	if (bio->bi_flags & BIO_CLONED)
		return;
	flags = task->flags;
	/* Counted on the loop device. */
	if ((flags & PF_LOOP) == PF_LOOP)
		return;
	flight.key.device = bio->bi_bdev->bd_dev;
	if (flags & PF_KTHREAD) {
		flight.key.cgroup = charged_cgroup(bio);
		flight.key.kind = kind_of_kernel(bio, flags, held_back, flight.key.cgroup);
	} else {
		flight.key.cgroup = bpf_get_current_cgroup_id();
	}
	if (flight.key.cgroup == ROOT_CGROUP && flight.key.kind != OTHER_WRITE_BACK) {
		/* A process is known by the command of its first thread, a worker of the kernel by no number. */
		if (flags & PF_WQ_WORKER)
			__builtin_memcpy(flight.key.command, "kworker", 8);
		else
			BPF_CORE_READ_INTO(&flight.key.command, task, group_leader, comm);
	}
	flight.bytes = operation <= REQ_OP_WRITE ? bio->bi_iter.bi_size : 0;
	flight.start_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&flights, &address, &flight, BPF_ANY))
		count_lost(LOST_FLIGHTS_FULL);
}

static __always_inline struct other_row *other_row_of(const struct other_key *key)
{
	struct other_row *row = bpf_map_lookup_elem(&others, key);

	if (row)
		return row;
	bpf_map_update_elem(&others, key, &no_other, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&others, key);
	if (row)
		return row;
	count_lost(LOST_OTHERS_FULL);
	row = bpf_map_lookup_elem(&others_overflow, &key->device);
	if (row)
		return row;
	bpf_map_update_elem(&others_overflow, &key->device, &no_other, BPF_NOEXIST);
	return bpf_map_lookup_elem(&others_overflow, &key->device);
}

static __always_inline void others_bio_completed(__u64 address)
{
	struct flight *flight = bpf_map_lookup_elem(&flights, &address);
	struct other_row *row;

	if (!flight)
		return;
	row = other_row_of(&flight->key);
	if (row) {
		__sync_fetch_and_add(&row->time_ns, bpf_ktime_get_ns() - flight->start_ns);
		__sync_fetch_and_add(&row->operations, 1);
		__sync_fetch_and_add(&row->bytes, flight->bytes);
	}
	bpf_map_delete_elem(&flights, &address);
}

#endif
