// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Which system calls are file operations, by number, and how their arguments are read: all that differs between
 * architectures. A port adds one block. 32-bit callers on a 64-bit kernel use other numbers and are not told apart:
 * no database server is one.
 */
#ifndef BLAMEIO_SYSCALLS_H
#define BLAMEIO_SYSCALLS_H

#include "kernel.h"

/* What a system call is to us. 0 = none of our business. */
enum call {
	CALL_NONE,
	CALL_READ,	/* bytes = the return value; the third argument is how many are asked for */
	CALL_READ_VECTOR,
	CALL_WRITE,	/* at the file position */
	CALL_PWRITE,	/* at the fourth argument */
	CALL_PWRITE_VECTOR,
	CALL_PWRITEV2,	/* of a vector too; at the fourth argument, or at the file position if it is -1; flags are the sixth */
	CALL_SYNC,
	CALL_ALLOCATE,	/* fd, mode, offset, length */
	CALL_ADVISE,	/* fd, offset, length, advice */
	CALL_TRUNCATE,
	CALL_PATH, /* names its file: no descriptor tells which */
	/* From here on of asynchronous requests, which have files of their own. */
	CALL_SUBMIT, /* io_submit */
	CALL_REAP,   /* io_getevents, io_pgetevents: results and length of the list of events */
	CALL_URING,  /* submits, waits, or both */
};

#if defined(__TARGET_ARCH_x86)

#define SYSCALL_NUMBER(regs) ((regs)->orig_ax)
#define ARGUMENT_1(regs) ((regs)->di)
#define ARGUMENT_2(regs) ((regs)->si)
#define ARGUMENT_3(regs) ((regs)->dx)
#define ARGUMENT_4(regs) ((regs)->r10)
#define ARGUMENT_6(regs) ((regs)->r9)
/* No system call: an exception that came from a program's own instruction. */
#define NOT_IN_SYSCALL(regs) ((long)(regs)->orig_ax == -1)
#define PAGE_SHIFT 12

/* arch/x86/entry/syscalls/syscall_64.tbl. The size is a power of two, so that the verifier sees the bound. */
#define SYSCALLS 512
const volatile __u8 syscalls[SYSCALLS] = {
	[0] = CALL_READ,       /* read */
	[1] = CALL_WRITE,      /* write */
	[17] = CALL_READ,      /* pread64 */
	[18] = CALL_PWRITE,    /* pwrite64 */
	[19] = CALL_READ_VECTOR, /* readv */
	[20] = CALL_WRITE,     /* writev */
	[74] = CALL_SYNC,      /* fsync */
	[75] = CALL_SYNC,      /* fdatasync */
	[77] = CALL_TRUNCATE,  /* ftruncate */
	[76] = CALL_PATH,      /* truncate */
	[82] = CALL_PATH,      /* rename */
	[87] = CALL_PATH,      /* unlink */
	[208] = CALL_REAP,     /* io_getevents */
	[209] = CALL_SUBMIT,   /* io_submit */
	[221] = CALL_ADVISE,   /* fadvise64 */
	[263] = CALL_PATH,     /* unlinkat */
	[264] = CALL_PATH,     /* renameat */
	[277] = CALL_SYNC,     /* sync_file_range */
	[285] = CALL_ALLOCATE, /* fallocate */
	[295] = CALL_READ_VECTOR, /* preadv */
	[296] = CALL_PWRITE_VECTOR, /* pwritev */
	[316] = CALL_PATH,     /* renameat2 */
	[327] = CALL_READ_VECTOR, /* preadv2 */
	[328] = CALL_PWRITEV2, /* pwritev2 */
	[333] = CALL_REAP,     /* io_pgetevents */
	[426] = CALL_URING,    /* io_uring_enter */
};

#else
#error "no system call table for this architecture"
#endif

/* include/uapi: the same on every architecture that Linux gained after 2002, and on x86. */
#define S_IFMT 0170000
#define S_IFREG 0100000
#define O_APPEND 02000
#define O_DSYNC 010000
#define O_DIRECT 040000 /* not on ARM */
#define RWF_DSYNC 0x02
#define RWF_SYNC 0x04
#define RWF_APPEND 0x10
#define POSIX_FADV_WILLNEED 3
#define FALLOC_FL_PUNCH_HOLE 0x02
#define FALLOC_FL_COLLAPSE_RANGE 0x08
/* What bpf_map_update_elem() returns is compared as an int: before Linux 6.4 the upper half means nothing. */
#define E2BIG 7
#define ENOMEM 12
#define EEXIST 17
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define TMPFS_MAGIC 0x01021994
#define RAMFS_MAGIC 0x858458f6
#define HUGETLBFS_MAGIC 0x958458f6

#endif
