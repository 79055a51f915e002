// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * libaio: the calls that submit lists of requests and reap lists of events, read from the process's memory. What becomes
 * of each request is in async.h.
 */
#ifndef BLAMEIO_AIO_H
#define BLAMEIO_AIO_H

#include "async.h"
#include <linux/aio_abi.h>

/* More requests than this in one call are counted as lost: the kernel's own limits are far above any server's use. */
#define REQUESTS_PER_CALL 4096

/* IOCB_CMD_PREADV and IOCB_CMD_PWRITEV have their numbers in every version of the header. */
#define AIO_FLAGS(iocb) ((iocb)->aio_rw_flags)

static __always_inline __u8 aio_operation(__u16 opcode)
{
	switch (opcode) {
	case IOCB_CMD_PREAD:
	case IOCB_CMD_PREADV:
		return OPERATION_READ;
	case IOCB_CMD_PWRITE:
	case IOCB_CMD_PWRITEV:
		return OPERATION_WRITE;
	case IOCB_CMD_FSYNC:
	case IOCB_CMD_FDSYNC:
		return OPERATION_FSYNC;
	default:
		return OPERATION_NONE;
	}
}

static __always_inline enum buffer aio_buffer(__u16 opcode)
{
	switch (opcode) {
	case IOCB_CMD_PREAD:
	case IOCB_CMD_PWRITE:
		return BUFFER_FLAT;
	case IOCB_CMD_PREADV:
	case IOCB_CMD_PWRITEV:
		return BUFFER_VECTOR;
	default:
		return BUFFER_NONE;
	}
}

/* A list of a calling process: pointers to what it submits, or events that it is given. */
struct aio_list {
	__u64 address;
	__u64 pid_tgid;
	__u64 from;
	struct slot *slot;
};

static long aio_submitted(__u32 index, struct aio_list *list)
{
	struct request_key key = {.tgid = list->pid_tgid >> 32};
	struct slot *slot = list->slot;
	struct view view = {};
	struct file *file;
	struct iocb iocb;
	__u8 operation;

	if (bpf_probe_read_user(&key.address, sizeof(key.address),
				(void *)(list->address + index * sizeof(key.address))) ||
	    bpf_probe_read_user(&iocb, sizeof(iocb), (void *)key.address)) {
		count_lost(LOST_REQUEST_UNREADABLE);
		return 0;
	}
	operation = aio_operation(iocb.aio_lio_opcode);
	if (operation == OPERATION_NONE)
		return 0;
	file = file_of(bpf_get_current_task_btf(), iocb.aio_fildes);
	if (!file || !view_file(slot, file, &view))
		return 0;
	slot->amount = 0;
	if (operation == OPERATION_WRITE) {
		slot->size = view.size;
		slot->position = iocb.aio_offset;
		if (view.flags & O_APPEND || AIO_FLAGS(&iocb) & RWF_APPEND)
			slot->position = view.size;
	}
	request_begins(slot, (__u32)list->pid_tgid, &key, &view, operation, AIO_FLAGS(&iocb), aio_buffer(iocb.aio_lio_opcode),
		       iocb.aio_buf);
	return 0;
}

/* The call did not take this one. */
static long aio_refused(__u32 index, struct aio_list *list)
{
	struct request_key key = {.tgid = list->pid_tgid >> 32};

	if (!bpf_probe_read_user(&key.address, sizeof(key.address),
				 (void *)(list->address + (list->from + index) * sizeof(key.address))))
		bpf_map_delete_elem(&requests, &key);
	return 0;
}

static long aio_reaped(__u32 index, struct aio_list *list)
{
	struct request_key key = {.tgid = list->pid_tgid >> 32};
	struct io_event event;

	if (bpf_probe_read_user(&event, sizeof(event), (void *)(list->address + index * sizeof(event)))) {
		count_lost(LOST_REQUEST_UNREADABLE);
		return 0;
	}
	key.address = event.obj;
	request_ends(&key, event.res);
	return 0;
}

static __always_inline __u32 bounded(__u64 requests)
{
	if (requests <= REQUESTS_PER_CALL)
		return requests;
	count_lost(LOST_REQUESTS_FULL);
	return REQUESTS_PER_CALL;
}

static __always_inline void async_call_begins(struct slot *slot, struct pt_regs *regs, __u8 call)
{
	struct aio_list list = {.pid_tgid = bpf_get_current_pid_tgid(), .slot = slot};

	slot->submitting = 0;
	slot->operation = OPERATION_AWAIT;
	if (call == CALL_SUBMIT && (__s64)ARGUMENT_2(regs) > 0) {
		list.address = ARGUMENT_3(regs);
		bpf_loop(bounded(ARGUMENT_2(regs)), aio_submitted, &list, 0);
	}
}

static __always_inline void async_call_ends(struct slot *slot, struct pt_regs *regs, __u8 call, __s64 result)
{
	struct aio_list list = {.pid_tgid = bpf_get_current_pid_tgid()};

	slot->operation = OPERATION_NONE;
	if (call == CALL_SUBMIT) {
		list.address = ARGUMENT_3(regs);
		list.from = result > 0 ? result : 0;
		if ((__s64)ARGUMENT_2(regs) > (__s64)list.from)
			bpf_loop(bounded(ARGUMENT_2(regs) - list.from), aio_refused, &list, 0);
	} else if (call == CALL_REAP && result > 0) {
		list.address = ARGUMENT_4(regs);
		bpf_loop(bounded(result), aio_reaped, &list, 0);
	}
}

#endif
