// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * io_uring and libaio: an operation is a request that begins in one call and ends whenever it does, in whatever thread.
 * Each request in flight is a row, which keeps what the slot of the submitting thread said of it; its end is accounted
 * as that of a system call of this thread. Nothing here knows what becomes of the counts.
 */
#ifndef BLAMEIO_ASYNC_H
#define BLAMEIO_ASYNC_H

#include "account.h"

/* By whom it is named: io_uring by the kernel's address of it, libaio by the process's. */
struct request_key {
	__u64 address;
	__u32 tgid; /* 0: the address is the kernel's */
	__u32 reserved;
};

struct asynchronous_request {
	struct slot slot; /* the submitting thread's, as it was */
	__u32 tid;
	__u32 tgid;
};

/* The last requests of a critical thread. Only the thread itself writes, or the scheduler while it leaves the processor. */
#define PENDING 32
struct pending {
	__u64 first; /* no older one is in flight */
	__u64 next;
	struct {
		struct request_key key;
		__u64 start_ns;
	} requests[PENDING];
};

/* Made in a system call; only servers that use io_uring or libaio have any. */
GROWING_MAP(requests, BPF_MAP_TYPE_HASH, struct request_key, struct asynchronous_request, 8192);
MAP(pending, BPF_MAP_TYPE_HASH, __u32, struct pending, 64);

static const struct pending no_pending;
static const struct asynchronous_request no_request;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct task_struct___async {
	void *worker_private;
};

struct io_wq_work___async {
	int flags;
};

struct io_worker___async {
	struct io_wq_work___async *cur_work;
};

struct io_cqe___async {
	__s32 res;
	int fd; /* until the file is looked up; flags afterwards */
};

struct io_rsrc_node___async {
	unsigned long file_ptr;
};

struct io_fixed_file___async {
	unsigned long file_ptr;
};

struct io_rsrc_data___async {
	unsigned int nr;
	struct io_rsrc_node___async **nodes;
};

struct io_file_table___async {
	struct io_rsrc_data___async data; /* from Linux 6.13 on */
	struct io_fixed_file___async *files;
};

struct io_ring_ctx___async {
	struct io_file_table___async file_table;
	unsigned int nr_user_files;
};

struct io_kiocb___async {
	__u8 opcode;
	unsigned int flags; /* 64 bits from Linux 6.10 on: the low ones are read */
	struct io_cqe___async cqe;
	struct io_ring_ctx___async *ctx;
	struct io_wq_work___async work;
};

struct kiocb___async {
	__s64 ki_pos;
};

/* What a request holds for its operation, each at its very beginning. */
struct io_rw___async {
	struct kiocb___async kiocb;
	__u64 addr;
	int flags;
};

struct io_sync___async {
	__s64 len;
	int mode;
};

struct io_fadvise___async {
	__u32 advice;
};

#pragma clang attribute pop

/* include/linux/sched.h: a thread of a process that works for io_uring. */
#define PF_IO_WORKER 0x00000010

/* include/uapi/linux/io_uring.h. Numbers never change. */
#define URING_READV 1
#define URING_WRITEV 2
#define URING_FSYNC 3
#define URING_READ_FIXED 4
#define URING_WRITE_FIXED 5
#define URING_SYNC_FILE_RANGE 8
#define URING_FALLOCATE 17
#define URING_READ 22
#define URING_WRITE 23
#define URING_FADVISE 24
#define URING_RENAMEAT 35
#define URING_UNLINKAT 36
#define URING_FTRUNCATE 55
#define URING_READV_FIXED 60
#define URING_WRITEV_FIXED 61
#define URING_FIXED_FILE 1 /* IOSQE_FIXED_FILE: the first of a request's flags */

static __always_inline __u8 uring_operation(struct io_kiocb___async *request, __u8 opcode)
{
	switch (opcode) {
	case URING_READV:
	case URING_READ:
	case URING_READ_FIXED:
	case URING_READV_FIXED:
		return OPERATION_READ;
	case URING_WRITEV:
	case URING_WRITE:
	case URING_WRITE_FIXED:
	case URING_WRITEV_FIXED:
		return OPERATION_WRITE;
	case URING_FSYNC:
	case URING_SYNC_FILE_RANGE:
		return OPERATION_FSYNC;
	case URING_FALLOCATE:
		if (BPF_CORE_READ((struct io_sync___async *)request, mode) &
		    (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE))
			return OPERATION_TRUNCATE;
		return OPERATION_EXTEND;
	case URING_FADVISE:
		if (BPF_CORE_READ((struct io_fadvise___async *)request, advice) == POSIX_FADV_WILLNEED)
			return OPERATION_PREFETCH;
		return OPERATION_NONE;
	case URING_FTRUNCATE:
		return OPERATION_TRUNCATE;
	default:
		return OPERATION_NONE;
	}
}

static __always_inline enum buffer uring_buffer(__u8 opcode)
{
	switch (opcode) {
	case URING_READ:
	case URING_READ_FIXED:
	case URING_WRITE:
	case URING_WRITE_FIXED:
		return BUFFER_FLAT;
	case URING_READV:
	case URING_READV_FIXED:
	case URING_WRITEV:
	case URING_WRITEV_FIXED:
		return BUFFER_VECTOR;
	default:
		return BUFFER_NONE;
	}
}

/* A file that was registered with the ring, by its index. */
static __always_inline struct file *registered_file(struct io_kiocb___async *request, __u32 index)
{
	struct io_ring_ctx___async *ring = BPF_CORE_READ(request, ctx);
	struct io_rsrc_node___async **nodes, *node = NULL;
	unsigned long file = 0;

	if (bpf_core_field_exists(struct io_file_table___async, data)) {
		if (index >= BPF_CORE_READ(ring, file_table.data.nr))
			return NULL;
		nodes = BPF_CORE_READ(ring, file_table.data.nodes);
		bpf_probe_read_kernel(&node, sizeof(node), nodes + index);
		if (node)
			file = BPF_CORE_READ(node, file_ptr);
	} else {
		if (index >= BPF_CORE_READ(ring, nr_user_files))
			return NULL;
		bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(ring, file_table.files) + index);
	}
	/* The lowest bits are flags. */
	return (struct file *)(file & ~7UL);
}

/* Keeps the order of a critical thread's requests. */
static __always_inline void add_pending(__u32 tid, const struct request_key *key, __u64 start_ns)
{
	struct pending *order = bpf_map_lookup_elem(&pending, &tid);
	__u32 place;

	if (!order) {
		bpf_map_update_elem(&pending, &tid, &no_pending, BPF_NOEXIST);
		order = bpf_map_lookup_elem(&pending, &tid);
		if (!order)
			return;
	}
	place = order->next % PENDING;
	order->requests[place].key = *key;
	order->requests[place].start_ns = start_ns;
	order->next += 1;
	if (order->next - order->first > PENDING)
		order->first = order->next - PENDING;
}

/* The slot of the oldest request in flight of a thread that is not running, among its last ones. */
static __always_inline struct slot *oldest_request(__u32 tid)
{
	struct pending *order = bpf_map_lookup_elem(&pending, &tid);
	struct asynchronous_request *request;
	__u32 place;
	int i;

	if (!order)
		return NULL;
	for (i = 0; i < PENDING; i++) {
		if (order->first >= order->next)
			return NULL;
		place = order->first % PENDING;
		request = bpf_map_lookup_elem(&requests, &order->requests[place].key);
		if (request && request->tid == tid && request->slot.start_ns == order->requests[place].start_ns)
			return &request->slot;
		order->first += 1;
	}
	return NULL;
}

/* What the operation needs must be in the slot by now: amount, and of a write position and size. */
static __always_inline void request_begins(struct slot *slot, __u32 tid, const struct request_key *key,
					   const struct view *view, __u8 operation, __u32 flags,
					   enum buffer kind, __u64 buffer)
{
	struct asynchronous_request *request;
	__u8 before = slot->operation;
	int error;

	turn_to(slot, view);
	error = bpf_map_update_elem(&requests, key, &no_request, BPF_NOEXIST);
	if (error == -EEXIST) {
		count_lost(LOST_REQUEST_UNFINISHED);
		error = 0;
	}
	request = bpf_map_lookup_elem(&requests, key);
	if (error || !request) {
		count_lost(LOST_REQUESTS_FULL);
		return;
	}
	page_begins(slot, operation, kind, buffer);
	account_begin(slot, operation, reaches(operation, view->flags, flags), 0);
	request->tid = tid;
	request->tgid = bpf_get_current_pid_tgid() >> 32;
	request->slot = *slot;
	slot->page = 0;
	slot->operation = before;
	if (slot->critical)
		add_pending(tid, key, slot->start_ns);
}

/* The request that a worker thread of io_uring carries out; 0 if it is none. */
static __always_inline __u64 worked_on(struct task_struct *task)
{
	struct io_worker___async *worker = BPF_CORE_READ((struct task_struct___async *)task, worker_private);
	__u64 work;

	if (!worker || !bpf_core_field_exists(struct io_worker___async, cur_work))
		return 0;
	work = (__u64)BPF_CORE_READ(worker, cur_work);
	return work ? work - bpf_core_field_offset(struct io_kiocb___async, work) : 0;
}

/*
 * The slot of the operation that the current thread carries out: its own, or that of a request. Of libaio's without
 * O_DIRECT it cannot be told.
 */
static __always_inline struct slot *working_slot(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct slot *slot = slot_of(task);
	struct asynchronous_request *request;
	struct request_key key = {};

	if (task->flags & PF_IO_WORKER)
		key.address = worked_on(task);
	else if (!slot || slot->operation != OPERATION_AWAIT)
		return slot;
	if (!key.address && slot)
		key.address = slot->submitting;
	if (!key.address)
		return NULL;
	request = bpf_map_lookup_elem(&requests, &key);
	return request ? &request->slot : NULL;
}

static __always_inline void request_ends(const struct request_key *key, __s64 result)
{
	struct asynchronous_request *request = bpf_map_lookup_elem(&requests, key);

	if (!request)
		return;
	/* It may end anywhere, and only its own process has its memory. */
	if (request->tgid != bpf_get_current_pid_tgid() >> 32)
		request->slot.page = 0;
	account_end(&request->slot, request->tid, result);
	bpf_map_delete_elem(&requests, key);
}

static __always_inline void uring_submitted(struct io_kiocb___async *request)
{
	struct request_key key = {.address = (__u64)request};
	struct io_rw___async *transfer = (struct io_rw___async *)request;
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 fd, flags = 0;
	__u64 buffer = 0;
	struct view view = {};
	struct file *file;
	struct slot *slot;
	__u8 operation, opcode;
	__s64 position;

	slot = own_slot(task);
	if (!slot)
		return;
	slot->submitting = 0;
	opcode = BPF_CORE_READ(request, opcode);
	operation = uring_operation(request, opcode);
	if (operation == OPERATION_NONE)
		return;
	fd = BPF_CORE_READ(request, cqe.fd);
	if (BPF_CORE_READ(request, flags) & URING_FIXED_FILE)
		file = registered_file(request, fd);
	else
		file = file_of(task, fd);
	if (!file || !view_file(slot, file, &view))
		return;
	slot->amount = 0;
	if (operation == OPERATION_READ || operation == OPERATION_WRITE) {
		flags = BPF_CORE_READ(transfer, flags);
		buffer = BPF_CORE_READ(transfer, addr);
	}
	if (operation == OPERATION_WRITE) {
		position = BPF_CORE_READ(transfer, kiocb.ki_pos);
		slot->size = view.size;
		if (view.flags & O_APPEND || flags & RWF_APPEND)
			slot->position = view.size;
		else
			slot->position = position == -1 ? BPF_CORE_READ(file, f_pos) : position;
	} else if (operation == OPERATION_EXTEND) {
		slot->amount = BPF_CORE_READ((struct io_sync___async *)request, len);
	}
	request_begins(slot, task->pid, &key, &view, operation, flags, uring_buffer(opcode), buffer);
	slot->submitting = key.address;
}

static __always_inline void uring_completed(struct io_kiocb___async *request)
{
	struct request_key key = {.address = (__u64)request};

	/* Events that no request of its own has. */
	if (request)
		request_ends(&key, BPF_CORE_READ(request, cqe.res));
}

static __always_inline void async_thread_exits(__u32 tid)
{
	if (bpf_map_lookup_elem(&pending, &tid))
		bpf_map_delete_elem(&pending, &tid);
}

#endif
