// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Pages that come into the page cache: of a read, a prefetch or a page fault of a mapped file they come from the device.
 * A fault is an operation from the first page that it reads until its page is there: the kernel tells of that by taking
 * the fault again, or by mapping the pages. Faults within a system call are not seen.
 */
#ifndef BLAMEIO_FILLS_H
#define BLAMEIO_FILLS_H

#include "async.h"

/* The fault has its page. */
static __always_inline void fault_ends(struct slot *slot, struct task_struct *task)
{
	if (slot->operation == OPERATION_FAULT)
		account_end(slot, task->pid, 1 << PAGE_SHIFT);
}

static __always_inline void fault_begins(struct address_space *mapping)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct slot *slot = own_slot(task);

	if (!slot)
		return;
	/* The same fault again, after it has waited; or another one, whose beginning is the end of the last. */
	fault_ends(slot, task);
	if (slot->operation == OPERATION_NONE)
		slot->faulting = (__u64)mapping->host;
}

static __always_inline void pages_mapped(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct slot *slot = slot_of(task);

	if (slot)
		fault_ends(slot, task);
}

/* 1 if the thread is in a fault of this inode that begins to read. */
static __always_inline int fault_reads(struct slot *slot, struct inode *host)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	struct view view = {};

	if (slot->faulting != (__u64)host || !NOT_IN_SYSCALL(regs) || !view_inode(host, &view))
		return 0;
	slot->amount = 0;
	turn_to(slot, &view);
	page_begins(slot, OPERATION_FAULT, BUFFER_NONE, 0);
	account_begin(slot, OPERATION_FAULT, 0, 0);
	return 1;
}

static __always_inline void page_filled(struct folio *folio)
{
	struct slot *slot = working_slot();
	struct inode *host;

	if (!slot)
		return;
	host = folio->mapping->host;
	switch (slot->operation) {
	case OPERATION_READ:
	case OPERATION_PREFETCH:
	case OPERATION_FAULT:
		break;
	case OPERATION_NONE:
		if (slot->faulting && fault_reads(slot, host))
			break;
		return;
	default: /* a page that is made to be written */
		return;
	}
	if (!is_of(slot, host))
		return;
	time_from_now(slot);
	if (!(slot->reached & REACHED_FILLED))
		remember_owner(slot);
	slot->filled += folio_bytes(folio);
	slot->reached |= REACHED_FILLED;
}

#endif
