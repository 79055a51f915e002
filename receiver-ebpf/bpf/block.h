// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The block layer's events, each told to whom it concerns: a bio is write-back of a watched file, or somebody else's.
 */
#ifndef BLAMEIO_BLOCK_H
#define BLAMEIO_BLOCK_H

#include "others.h"
#include "writeback.h"

/* Of whomever the address was before: the end was not seen, or nothing would be here. */
static __always_inline void forget_bio(__u64 address)
{
	if (bpf_map_lookup_elem(&write_back_bios, &address) && !bpf_map_delete_elem(&write_back_bios, &address))
		count_lost(LOST_FLIGHT_UNFINISHED);
	if (bpf_map_lookup_elem(&flights, &address) && !bpf_map_delete_elem(&flights, &address))
		count_lost(LOST_FLIGHT_UNFINISHED);
}

static __always_inline void bio_queued(struct bio *bio)
{
	int held_back;

	forget_bio((__u64)bio);
	if (writeback_bio_queued(bio))
		return;
	held_back = sends_on();
	if (!held_back || !is_of_watched(bio))
		others_bio_queued(bio, held_back);
}

static __always_inline void bio_completed(__u64 address, unsigned int operation)
{
	if (operation == REQ_OP_WRITE && writeback_bio_completed(address))
		return;
	others_bio_completed(address);
}

/* What is left of a request that ends. */
struct ending {
	struct bio *bio;
	__u64 bytes;
};

/* Bios that were merged into one request: more than a disk takes segments. */
#define BIOS_PER_REQUEST 2048

static long request_bio_ends(__u32 index, struct ending *ending)
{
	struct bio *bio = ending->bio;
	unsigned int size;

	if (!bio)
		return 1;
	size = BPF_CORE_READ(bio, bi_iter.bi_size);
	if (size > ending->bytes)
		return 1; /* a part of it: told of again */
	ending->bytes -= size;
	ending->bio = BPF_CORE_READ(bio, bi_next);
	bio_completed((__u64)bio, BPF_CORE_READ(bio, bi_opf) & REQ_OP_MASK);
	return 0;
}

/*
 * Bios of a device that takes requests end with these, and have no event of their own. Of one that was split the last
 * part is the bio itself.
 */
static __always_inline void request_completed(struct request *request, unsigned int bytes)
{
	struct ending ending = {.bio = request->bio, .bytes = bytes};

	bpf_loop(BIOS_PER_REQUEST, request_bio_ends, &ending, 0);
}

#endif
