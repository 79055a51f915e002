// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The `tracepoint` provider: system calls, the scheduler, the page cache and the block layer, through BTF tracepoints
 * only. Works where fentry and kprobes are refused.
 * A context is declared as an array of words: the loader cannot relocate the kernel's own declaration of it.
 */
#include "account.h"
#include "async.h"
#include "block.h"
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

SEC("tp_btf/sys_enter")
int on_sys_enter(__u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	__u64 number = ctx[1];
	struct file *file = NULL;
	struct view view = {};
	__u8 call, operation, reached;
	struct slot *slot;
	int untimed;

	/* Every system call of the machine comes by: the number first, it costs nothing. */
	if (number >= SYSCALLS)
		return 0;
	call = syscalls[number];
	if (call == CALL_NONE)
		return 0;
	slot = own_slot();
	if (!slot)
		return 0;
	fault_ends(slot, bpf_get_current_pid_tgid());
	if (call >= CALL_SUBMIT) {
		async_call_begins(slot, regs, call);
		return 0;
	}
	operation = operation_of(regs, call);
	if (operation == OPERATION_NONE)
		return 0;
	if (operation == OPERATION_BY_PATH) {
		by_path_begin(slot);
		return 0;
	}
	file = file_of(ARGUMENT_1(regs));
	if (!file || !view_file(slot, file, &view))
		return 0;
	slot->amount = 0;
	if (operation == OPERATION_WRITE) {
		slot->size = view.size;
		slot->position = position_of(regs, call, file, &view);
	} else if (operation == OPERATION_EXTEND) {
		slot->amount = ARGUMENT_4(regs);
	}
	turn_to(slot, &view);
	reached = reaches(operation, view.flags, call == CALL_PWRITEV2 ? ARGUMENT_6(regs) : 0);
	untimed = call == CALL_READ && !reached && goes_untimed(slot, ARGUMENT_3(regs));
	account_begin(slot, operation, reached, untimed);
	return 0;
}

SEC("tp_btf/sys_exit")
int on_sys_exit(__u64 *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx[0];
	__u64 number = SYSCALL_NUMBER(regs);
	struct task_struct *task;
	struct slot *slot;

	if (number >= SYSCALLS || syscalls[number] == CALL_NONE)
		return 0;
	task = bpf_get_current_task_btf();
	slot = slot_of(task);
	if (!slot)
		return 0;
	if (slot->operation == OPERATION_AWAIT)
		async_call_ends(slot, regs, syscalls[number], (__s64)ctx[1]);
	else if (slot->operation == OPERATION_BY_PATH)
		by_path_end(slot, (__s64)ctx[1]);
	else if (slot->operation != OPERATION_NONE)
		account_end(slot, task->pid, (__s64)ctx[1]);
	return 0;
}

SEC("tp_btf/mm_filemap_add_to_page_cache")
int on_page_filled(__u64 *ctx)
{
	page_filled((struct folio *)ctx[0]);
	return 0;
}

SEC("tp_btf/mm_filemap_fault")
int on_fault(__u64 *ctx)
{
	fault_begins((struct address_space *)ctx[0]);
	return 0;
}

SEC("tp_btf/mm_filemap_map_pages")
int on_pages_mapped(__u64 *ctx)
{
	pages_mapped();
	return 0;
}

SEC("tp_btf/writeback_dirty_folio")
int on_page_dirtied(__u64 *ctx)
{
	page_dirtied((struct folio *)ctx[0], (struct address_space *)ctx[1]);
	return 0;
}

SEC("tp_btf/block_bio_queue")
int on_bio_queue(__u64 *ctx)
{
	bio_queued((struct bio *)ctx[0]);
	return 0;
}

SEC("tp_btf/block_bio_complete")
int on_bio_complete(__u64 *ctx)
{
	struct bio *bio = (struct bio *)ctx[1];

	bio_completed((__u64)bio, bio->bi_opf & REQ_OP_MASK);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int on_request_complete(__u64 *ctx)
{
	request_completed((struct request *)ctx[0], ctx[2]);
	return 0;
}

SEC("tp_btf/sched_switch")
int on_sched_switch(__u64 *ctx)
{
	struct task_struct *previous = (struct task_struct *)ctx[1];
	struct task_struct *next = (struct task_struct *)ctx[2];

	/* The state itself, not the tracepoint's copy of it: that is stale when a signal keeps the thread runnable. */
	if (previous->pid)
		thread_leaves_cpu(previous, ctx[0] || !previous->__state);
	if (next->pid)
		thread_takes_cpu(next);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int on_sched_wakeup(__u64 *ctx)
{
	thread_wakes((struct task_struct *)ctx[0]);
	return 0;
}

/* Runs before the child does: nothing of it is missed. */
SEC("tp_btf/sched_process_fork")
int on_fork(__u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	__u32 tgid = parent->tgid, child_tgid = child->tgid;
	struct process entry = {}, *process;

	if (tgid == child_tgid)
		return 0; /* a thread */
	process = bpf_map_lookup_elem(&processes, &tgid);
	if (!process)
		return 0;
	entry.server = process->server;
	if (bpf_map_update_elem(&processes, &child_tgid, &entry, BPF_ANY))
		count_lost(LOST_PROCESSES_FULL);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tgid = task->tgid;

	thread_exits(task);
	async_thread_exits(task->pid);
	/* The first thread may leave before the others. */
	if (task->signal->live.counter == 0 && bpf_map_lookup_elem(&processes, &tgid))
		bpf_map_delete_elem(&processes, &tgid);
	return 0;
}

/* Linux 6.3 and later. */
SEC("tp_btf/io_uring_submit_req")
int on_uring_submit_req(__u64 *ctx)
{
	uring_submitted((struct io_kiocb___async *)ctx[0]);
	return 0;
}

/* Before it. */
SEC("tp_btf/io_uring_submit_sqe")
int on_uring_submit_sqe(__u64 *ctx)
{
	uring_submitted((struct io_kiocb___async *)ctx[0]);
	return 0;
}

/* The first two arguments are the same in all versions, what follows is not. */
SEC("tp_btf/io_uring_complete")
int on_uring_complete(__u64 *ctx)
{
	uring_completed((struct io_kiocb___async *)ctx[1]);
	return 0;
}
