// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The maps, their keys and values: the contract with user space (src/raw.rs mirrors every struct here, byte by byte).
 * Only cumulative counters; nothing is cleared by a reader. max_entries are defaults that the loader replaces.
 */
#ifndef BLAMEIO_MAPS_H
#define BLAMEIO_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

enum operation {
	OPERATION_NONE,
	OPERATION_READ,
	OPERATION_WRITE,
	OPERATION_EXTEND,
	OPERATION_FSYNC,
	OPERATION_PREFETCH,
	OPERATION_TRUNCATE,
	OPERATION_BY_PATH, /* of no known file: makes a state, and no row */
	OPERATION_FAULT,   /* a page fault of a mapped file that reads */
	OPERATION_AWAIT,   /* of asynchronous requests: makes the state of the oldest one, and no row */
};

/* Exclusive: a thread is in one of them at every moment. */
enum state {
	STATE_CPU,
	STATE_RUNQUEUE,
	STATE_READ,  /* also a fault that reads */
	STATE_WRITE, /* also extend, truncate, and operations by path */
	STATE_FSYNC,
	STATE_PREFETCH,
	STATE_WAIT,
	STATE_THROTTLED, /* could run, and its cgroup has used up its processor time */
	STATE_UNKNOWN, /* watched, and not seen to move yet: the first move tells what it was */
	STATES,
	STATE_EXITED = STATES, /* no time is added any more */
};

enum lost {
	LOST_IO_FULL,
	LOST_OVERFLOW_FULL,
	LOST_FILES_FULL,
	LOST_NO_SLOT,
	LOST_THREAD_TIME_FULL,
	LOST_DURATIONS_FULL,
	LOST_PROCESSES_FULL,
	LOST_NAME_UNREADABLE,
	LOST_DEVICE_FULL,
	LOST_WRITE_BACK_FULL,
	LOST_BIOS_FULL,
	LOST_REQUESTS_FULL,
	LOST_REQUEST_UNREADABLE,
	LOST_REQUEST_UNFINISHED, /* its end was not seen */
	LOST_FLIGHTS_FULL,
	LOST_FLIGHT_UNFINISHED, /* its end was not seen */
	LOST_OTHERS_FULL,
	LOST_OWNERS_FULL,
	LOST_REASONS,
};

/*
 * Inode number and device alone are reused; the generation tells the next owner of a number apart, where the file
 * system has one. All 0 in an operation by path.
 */
struct file_id {
	__u32 device; /* s_dev: not always what stat() says */
	__u32 generation;
	__u64 inode;
};

struct process {
	__u16 server;
	__u8 role;
	__u8 pages; /* enum page_format of its tablespaces */
	__u8 reserved[4];
};

/* Why an operation counts as one of the device: bits of slot.reached. */
enum reached {
	REACHED_FILLED = 1,  /* added pages to the page cache */
	REACHED_DIRECT = 2,
	REACHED_SYNCED = 4,  /* returns when the data is on the device: fsync, and writes of an O_DSYNC file */
	REACHED_SLEPT = 8,   /* a read that slept: others are filling its pages */
	REACHED_DIRTIED = 16, /* no operation of the device itself */
};

/* What a slot's file lies on, when that is not a disk. */
enum medium {
	MEDIUM_DISK,
	MEDIUM_MEMORY,
	MEDIUM_LAYERED, /* overlayfs: its pages belong to an inode of another file system */
};

/*
 * The operation a thread is in, kept with the thread: an insert and a delete per operation costs 100 ns. Threads that
 * are not watched have one too, so that they are asked for only when what is watched has changed.
 */
struct slot {
	__u64 start_ns; /* 0: not timed; see quick_ns */
	__u64 position;
	__u64 size;   /* of the file, when the operation began */
	__u64 amount; /* bytes to count if it succeeds and the return value does not say */
	struct file_id file;
	__u64 super; /* the address of the file's super block, whose number is file.device; 0: look again */
	__u64 opened; /* the address of the open file */
	__u64 host;   /* the address of its inode */
	__u64 faulting; /* the address of the inode that the thread last took a page fault of */
	__u64 filled;	/* bytes of pages that this operation added to the page cache */
	__u64 dirtied;	/* bytes of pages that this operation made dirty */
	__u32 moves; /* of struct naming, when the name was last compared */
	__u32 epoch; /* of server, role, critical and watched */
	__u16 server;
	__u8 role;
	__u8 operation; /* OPERATION_NONE: not in one */
	__u8 critical;
	__u8 watched;
	__u8 reached;
	__u8 medium;
	__u8 switched; /* left the processor during the operation */
	__u8 quick_left; /* reads that go untimed */
	__u8 pages;	 /* as in struct process */
	__u8 tablespace; /* whether the file has such pages */
	__u32 quick_ns; /* what the last read took that was timed and found all in the page cache */
	__u64 quick_asked; /* the bytes that it asked for */
	__u64 submitting; /* the address of the io_uring request that the thread gave the kernel last */
	__u64 owner; /* the address of what its cgroup is for I/O, once that is kept; see owner.h */
	__u64 page;  /* the process's address of a page that is being read, whose index its end tells */
	__u32 index; /* whose page it is, as far as that is told; see pages.h */
	__u32 reserved;
};

/*
 * Two readings of the clock cost as much as all else. So of reads that ask for as many bytes as the one before, and find
 * them in the page cache without leaving the processor, one in so many is timed; the others count as long as it took.
 */
#define QUICK_UNTIMED 7

struct io_key {
	struct file_id file;
	__u32 tid; /* of critical threads, else 0 */
	__u16 server;
	__u8 role;
	__u8 operation;
	__u32 index; /* of the pages, in a file that several indexes share; see pages.h */
	__u32 reserved;
};

struct io_row {
	__u64 operations;
	__u64 bytes;
	__u64 errors;
	__u64 time_ns;
};

/* What of the operations of an io_key reached the device. */
struct device_row {
	__u64 operations;
	__u64 bytes; /* read, or written past the page cache */
	__u64 time_ns;
	__u64 dirtied; /* bytes of pages made dirty: write-back is theirs to answer for */
};

/* Write-back of a file that watched processes made dirty. The key is the identity of the pages' own inode. */
struct write_back {
	struct file_id file; /* as its operations name it: another one on overlayfs */
	__u64 operations;
	__u64 bytes;
	__u64 time_ns;
};

struct write_back_bio {
	struct file_id host;
	__u64 start_ns;
};

struct overflow_key {
	__u16 server;
	__u8 role;
	__u8 operation;
};

#define NAMES 4
#define NAME_SIZE 64
struct file_name {
	__u64 leaf;	 /* hash and length of the leaf's name: another one means that the name is another's */
	__u32 depth;	 /* how many of the names are set */
	__u32 truncated; /* bit n: name n did not fit */
	char names[NAMES][NAME_SIZE]; /* from the leaf up */
};

/* What is known of the names as a whole. */
struct naming {
	__u64 moves;   /* calls by path of watched processes, after which an inode may have another name or owner */
	__u64 full;    /* the epoch in which `files` had no room: until the next one nobody tries again */
	__u64 renamed; /* names that were replaced */
};

/* Buckets of scale 2 from 2^-20 to 2^4 s (1 us to 16 s): (4 + 20) << 2. */
#define DURATION_SCALE 2
#define DURATION_BUCKETS 96
/* floor(2^-20 s) and 2^4 s, in ns. */
#define DURATION_ZERO 953
#define DURATION_LONG 16000000000ULL
/* 2^n ns lies in bucket 4 n - 40 of the array, because 4 log2(10^9) = 119.6 and the array begins at -80. */
#define DURATION_SHIFT 40
struct duration_key {
	struct file_id file;
	__u16 server;
	__u8 operation;
	__u8 reserved;
	__u32 index;
};

struct durations {
	__u64 sum_ns;
	__u64 zero; /* at most DURATION_ZERO ns */
	__u64 buckets[DURATION_BUCKETS];
};

struct thread {
	__u64 sequence; /* odd while being written */
	__u64 since_ns;
	__u64 state;
	struct file_id file; /* of the operation, in the states that have one */
	__u64 state_ns[STATES];
	__u64 unkept_ns[STATES]; /* the part of state_ns that found no room in thread_time */
	__u64 queue;		 /* the address of the run queue it began to wait in, and how long that had been throttled */
	__u64 throttled_before;
	__u64 held_ns; /* of state_ns: read time of the operation in flight that is added when its index is told */
	__u32 index;   /* of the operation, as `file` */
	__u32 held;    /* whether the operation's time is held */
};

struct thread_time_key {
	__u32 tid;
	__u32 index;
	struct file_id file;
	__u64 state;
};

#define MAP(name_, type_, key_, value_, entries_)                                                                      \
	struct {                                                                                                       \
		__uint(type, type_);                                                                                   \
		__uint(max_entries, entries_);                                                                         \
		__type(key, key_);                                                                                     \
		__type(value, value_);                                                                                 \
	} name_ SEC(".maps")

/*
 * Takes memory for the rows that it has, not for all that it may have. Only for maps whose rows are made where a thread
 * may be interrupted: not in the scheduler, nor for each bio.
 */
#define GROWING_MAP(name_, type_, key_, value_, entries_)                                                              \
	struct {                                                                                                       \
		__uint(type, type_);                                                                                   \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__uint(max_entries, entries_);                                                                         \
		__type(key, key_);                                                                                     \
		__type(value, value_);                                                                                 \
	} name_ SEC(".maps")

MAP(processes, BPF_MAP_TYPE_HASH, __u32, struct process, 4096);
/* Of threads whose role is not their process's. */
GROWING_MAP(thread_roles, BPF_MAP_TYPE_HASH, __u32, __u32, 8192);
GROWING_MAP(files, BPF_MAP_TYPE_HASH, struct file_id, struct file_name, 5120);
GROWING_MAP(io, BPF_MAP_TYPE_PERCPU_HASH, struct io_key, struct io_row, 16384);
MAP(overflow, BPF_MAP_TYPE_PERCPU_HASH, struct overflow_key, struct io_row, 1024);
GROWING_MAP(durations, BPF_MAP_TYPE_HASH, struct duration_key, struct durations, 7168);
MAP(critical, BPF_MAP_TYPE_HASH, __u32, struct thread, 64);
/*
 * A bit for each thread of `critical`, at its number modulo their count: set before the thread is there, cleared after. At
 * every switch and wakeup of the machine this is asked first, and mostly it is all that is asked.
 */
#define CRITICAL_BITS 4096
MAP(critical_bits, BPF_MAP_TYPE_ARRAY, __u32, __u64, CRITICAL_BITS / 64);
MAP(thread_time, BPF_MAP_TYPE_HASH, struct thread_time_key, __u64, 8192);
MAP(lost, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, LOST_REASONS);
/*
 * Counts what user space changes of `processes`, `thread_roles` and `critical`, and what it removes of `files`. Until it moves, what a
 * slot keeps of them holds.
 */
MAP(watch_epoch, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1);
MAP(naming, BPF_MAP_TYPE_ARRAY, __u32, struct naming, 1);
/* A name is too large for the stack. */
MAP(scratch, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct file_name, 1);
GROWING_MAP(device, BPF_MAP_TYPE_HASH, struct io_key, struct device_row, 8192);
GROWING_MAP(write_back, BPF_MAP_TYPE_HASH, struct file_id, struct write_back, 5120);
/* In flight; the key is the address of the bio. */
MAP(write_back_bios, BPF_MAP_TYPE_HASH, __u64, struct write_back_bio, 4096);

/* One per thread that has done file I/O, freed with the thread. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct slot);
} slots SEC(".maps");

static __always_inline __u32 current_epoch(void)
{
	__u32 zero = 0;
	__u64 *epoch = bpf_map_lookup_elem(&watch_epoch, &zero);

	return epoch ? *epoch : 0;
}

static __always_inline struct naming *the_naming(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&naming, &zero);
}

static __always_inline void count_lost(__u32 reason)
{
	__u64 *count = bpf_map_lookup_elem(&lost, &reason);

	if (count)
		*count += 1;
}

#endif
