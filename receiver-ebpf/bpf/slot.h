// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The slot of a thread: found in its own storage, made at its first operation, and brought up to date when what is
 * watched has changed. Does not know of operations.
 */
#ifndef BLAMEIO_SLOT_H
#define BLAMEIO_SLOT_H

#include "kernel.h"
#include "maps.h"

/* The slot that a task has, watched or not, up to date or not. */
static __always_inline struct slot *slot_of(struct task_struct *task)
{
	return bpf_task_storage_get(&slots, task, 0, 0);
}

/* Keeps in the slot what user space says of the thread. The epoch must have been read before. */
static __always_inline void join(struct slot *slot, struct task_struct *task, __u32 epoch)
{
	__u32 tid = task->pid, tgid = task->tgid;
	struct process *process = bpf_map_lookup_elem(&processes, &tgid);
	struct thread *thread = bpf_map_lookup_elem(&critical, &tid);
	__u32 *role;

	slot->watched = process != NULL;
	if (process) {
		role = bpf_map_lookup_elem(&thread_roles, &tid);
		slot->server = process->server;
		slot->role = role ? *role : process->role;
		slot->pages = process->pages;
	}
	slot->critical = thread && thread->state != STATE_EXITED;
	slot->epoch = epoch;
	slot->owner = 0;
	/* A name may have been removed to make room. */
	slot->super = 0;
}

/* The slot of the current thread, `task`, at the beginning of an operation; NULL if it is not watched. */
static __always_inline struct slot *own_slot(struct task_struct *task)
{
	__u32 epoch = current_epoch();
	struct slot *slot = slot_of(task);
	__u32 tgid;

	if (slot && slot->epoch == epoch)
		return slot->watched ? slot : NULL;
	if (!slot) {
		/* The kernel may refuse, when it is at another task's storage on this processor. */
		slot = bpf_task_storage_get(&slots, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!slot) {
			tgid = task->tgid;
			if (bpf_map_lookup_elem(&processes, &tgid))
				count_lost(LOST_NO_SLOT);
			return NULL;
		}
	}
	join(slot, task, epoch);
	return slot->watched ? slot : NULL;
}

#endif
