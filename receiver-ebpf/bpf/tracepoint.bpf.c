// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The `tracepoint` provider: system calls, the scheduler, the page cache and the block layer, through BTF tracepoints
 * only. Works where fentry and kprobes are refused.
 * A context is declared as an array of words: the loader cannot relocate the kernel's own declaration of it.
 */
#include "account.h"
#include "aio.h"
#include "block.h"
#include "cost.h"
#include "fills.h"
#include "thread_states.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Where a write begins. An append goes to the end, wherever it was asked to go. */
static __always_inline __u64 position_of(struct pt_regs *regs, __u8 call, struct file *file,
					 const struct view *view)
{
	__s64 position = CALL_WRITE == call ? -1 : (__s64)ARGUMENT_4(regs);

	if (view->flags & O_APPEND)
		return view->size;
	if (call == CALL_PWRITEV2 && (ARGUMENT_6(regs) & RWF_APPEND))
		return view->size;
	return position == -1 ? BPF_CORE_READ(file, f_pos) : position;
}

static __always_inline __u8 operation_of(struct pt_regs *regs, __u8 call)
{
	switch (call) {
	case CALL_READ:
	case CALL_READ_VECTOR:
		return OPERATION_READ;
	case CALL_WRITE:
	case CALL_PWRITE:
	case CALL_PWRITE_VECTOR:
	case CALL_PWRITEV2:
		return OPERATION_WRITE;
	case CALL_SYNC:
		return OPERATION_FSYNC;
	case CALL_ALLOCATE:
		/* Giving blocks back is the opposite of an extend. */
		if (ARGUMENT_2(regs) & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE))
			return OPERATION_TRUNCATE;
		return OPERATION_EXTEND;
	case CALL_ADVISE:
		return (__u32)ARGUMENT_4(regs) == POSIX_FADV_WILLNEED ? OPERATION_PREFETCH : OPERATION_NONE;
	case CALL_TRUNCATE:
		return OPERATION_TRUNCATE;
	case CALL_PATH:
		return OPERATION_BY_PATH;
	default:
		return OPERATION_NONE;
	}
}

/* What the second argument is. Pages are never written at the file position. */
static __always_inline enum buffer buffer_of(__u8 call)
{
	switch (call) {
	case CALL_READ:
	case CALL_PWRITE:
		return BUFFER_FLAT;
	case CALL_READ_VECTOR:
	case CALL_PWRITE_VECTOR:
	case CALL_PWRITEV2:
		return BUFFER_VECTOR;
	default:
		return BUFFER_NONE;
	}
}

/*
 * An operation that its own thread carries out. In a frame of its own: before Linux 6.13 all frames in a row share 512
 * bytes, and the requests of io_submit need most of those.
 */
static __noinline void operation_begins(struct slot *slot, struct task_struct *task, struct pt_regs *regs, __u8 call)
{
	__u8 operation = operation_of(regs, call), reached;
	struct view view = {};
	struct file *file;
	int untimed;

	if (operation == OPERATION_NONE)
		return;
	if (operation == OPERATION_BY_PATH) {
		by_path_begin(slot);
		return;
	}
	file = file_of(task, ARGUMENT_1(regs));
	if (!file || !view_file(slot, file, &view))
		return;
	slot->amount = 0;
	if (operation == OPERATION_WRITE) {
		slot->size = view.size;
		slot->position = position_of(regs, call, file, &view);
	} else if (operation == OPERATION_EXTEND) {
		slot->amount = ARGUMENT_4(regs);
	}
	turn_to(slot, &view);
	reached = reaches(operation, view.flags, call == CALL_PWRITEV2 ? ARGUMENT_6(regs) : 0);
	page_begins(slot, operation, buffer_of(call), ARGUMENT_2(regs));
	untimed = call == CALL_READ && !reached && goes_untimed(slot, ARGUMENT_3(regs));
	account_begin(slot, operation, reached, untimed);
}

static __always_inline void operation_ends(struct slot *slot, __u32 tid, __s64 result)
{
	account_end(slot, tid, result);
	if (slot->critical && slot->tablespace)
		held_ends(slot, tid);
}

PROBE(on_sys_enter, "sys_enter", PROGRAM_SYS_ENTER)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	__u64 number = ctx[1];
	struct task_struct *task;
	struct slot *slot;
	__u8 call;

	/* Every system call of the machine comes by: the number first, it costs nothing. */
	if (number >= SYSCALLS)
		return;
	call = syscalls[number];
	if (call == CALL_NONE)
		return;
	task = bpf_get_current_task_btf();
	slot = own_slot(task);
	if (!slot)
		return;
	fault_ends(slot, task);
	if (call >= CALL_SUBMIT)
		async_call_begins(slot, regs, call);
	else
		operation_begins(slot, task, regs, call);
}

PROBE(on_sys_exit, "sys_exit", PROGRAM_SYS_EXIT)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	__u64 number = SYSCALL_NUMBER(regs);
	struct task_struct *task;
	struct slot *slot;

	if (number >= SYSCALLS || syscalls[number] == CALL_NONE)
		return;
	task = bpf_get_current_task_btf();
	slot = slot_of(task);
	if (!slot)
		return;
	if (slot->operation == OPERATION_AWAIT)
		async_call_ends(slot, regs, syscalls[number], (__s64)ctx[1]);
	else if (slot->operation == OPERATION_BY_PATH)
		by_path_end(slot, (__s64)ctx[1]);
	else if (slot->operation != OPERATION_NONE)
		operation_ends(slot, task->pid, (__s64)ctx[1]);
}

PROBE(on_page_filled, "mm_filemap_add_to_page_cache", PROGRAM_PAGE_FILLED)
{
	page_filled((struct folio *)ctx[0]);
}

PROBE(on_fault, "mm_filemap_fault", PROGRAM_FAULT)
{
	fault_begins((struct address_space *)ctx[0]);
}

PROBE(on_pages_mapped, "mm_filemap_map_pages", PROGRAM_PAGES_MAPPED)
{
	pages_mapped();
}

PROBE(on_page_dirtied, "writeback_dirty_folio", PROGRAM_PAGE_DIRTIED)
{
	page_dirtied((struct folio *)ctx[0], (struct address_space *)ctx[1]);
}

PROBE(on_bio_queue, "block_bio_queue", PROGRAM_BIO_QUEUE)
{
	bio_queued((struct bio *)ctx[0]);
}

PROBE(on_bio_complete, "block_bio_complete", PROGRAM_BIO_COMPLETE)
{
	struct bio *bio = (struct bio *)ctx[1];

	bio_completed((__u64)bio, bio->bi_opf & REQ_OP_MASK);
}

PROBE(on_request_complete, "block_rq_complete", PROGRAM_REQUEST_COMPLETE)
{
	request_completed((struct request *)ctx[0], ctx[2]);
}

PROBE(on_sched_switch, "sched_switch", PROGRAM_SCHED_SWITCH)
{
	struct task_struct *previous = (struct task_struct *)ctx[1];
	struct task_struct *next = (struct task_struct *)ctx[2];

	/* The state itself, not the tracepoint's copy of it: that is stale when a signal keeps the thread runnable. */
	if (previous->pid)
		thread_leaves_cpu(previous, ctx[0] || !previous->__state);
	if (next->pid)
		thread_takes_cpu(next);
}

PROBE(on_sched_wakeup, "sched_wakeup", PROGRAM_SCHED_WAKEUP)
{
	thread_wakes((struct task_struct *)ctx[0]);
}

/* Runs before the child does: nothing of it is missed. */
PROBE(on_fork, "sched_process_fork", PROGRAM_FORK)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	__u32 tgid = parent->tgid, child_tgid = child->tgid;
	struct process entry = {}, *process;

	if (tgid == child_tgid)
		return; /* a thread */
	process = bpf_map_lookup_elem(&processes, &tgid);
	if (!process)
		return;
	entry.server = process->server;
	entry.pages = process->pages;
	if (bpf_map_update_elem(&processes, &child_tgid, &entry, BPF_ANY))
		count_lost(LOST_PROCESSES_FULL);
}

PROBE(on_exit, "sched_process_exit", PROGRAM_EXIT)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tgid = task->tgid, tid = task->pid;

	thread_exits(task);
	async_thread_exits(tid);
	/* A later thread of the number does something else. */
	if (bpf_map_lookup_elem(&thread_roles, &tid))
		bpf_map_delete_elem(&thread_roles, &tid);
	/* The first thread may leave before the others. */
	if (task->signal->live.counter == 0 && bpf_map_lookup_elem(&processes, &tgid))
		bpf_map_delete_elem(&processes, &tgid);
}

/* Linux 6.3 and later. */
PROBE(on_uring_submit_req, "io_uring_submit_req", PROGRAM_URING_SUBMIT)
{
	uring_submitted((struct io_kiocb___async *)ctx[0]);
}

/* Before it. */
PROBE(on_uring_submit_sqe, "io_uring_submit_sqe", PROGRAM_URING_SUBMIT)
{
	uring_submitted((struct io_kiocb___async *)ctx[0]);
}

/* The first two arguments are the same in all versions, what follows is not. */
PROBE(on_uring_complete, "io_uring_complete", PROGRAM_URING_COMPLETE)
{
	uring_completed((struct io_kiocb___async *)ctx[1]);
}
