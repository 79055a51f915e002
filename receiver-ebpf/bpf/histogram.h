// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Durations in the exact buckets of OpenTelemetry's base-2 exponential histogram: bucket i holds (b^i, b^(i+1)],
 * b = 2^(1/4). Integer arithmetic only. src/histogram.rs is the same function in Rust, tested against big integers.
 */
#ifndef BLAMEIO_HISTOGRAM_H
#define BLAMEIO_HISTOGRAM_H

#include "maps.h"

/* ceil(2^(63 + n/4)): where the quarters of a power of two begin, for a value shifted left until bit 63 is set. */
#define QUARTER_1 0x9837f0518db8a970ULL
#define QUARTER_2 0xb504f333f9de6485ULL
#define QUARTER_3 0xd744fccad69d6af5ULL

/* value > 0 */
static __always_inline __u32 bucket_index(__u64 value)
{
	__u32 zeros = __builtin_clzll(value);
	__u32 index = (63 - zeros) << DURATION_SCALE;
	__u64 top = value << zeros;

	if ((value & (value - 1)) == 0)
		return index - 1; /* upper bounds are inclusive */
	return index + (top >= QUARTER_1) + (top >= QUARTER_2) + (top >= QUARTER_3);
}

static const struct durations no_durations;

static __always_inline void count_duration(const struct duration_key *key, __u64 ns)
{
	struct durations *row = bpf_map_lookup_elem(&durations, key);
	__u32 bucket;

	if (!row) {
		bpf_map_update_elem(&durations, key, &no_durations, BPF_NOEXIST);
		row = bpf_map_lookup_elem(&durations, key);
		if (!row) {
			count_lost(LOST_DURATIONS_FULL);
			return;
		}
	}
	__sync_fetch_and_add(&row->sum_ns, ns);
	if (ns <= 1ULL << DURATION_LOW) {
		__sync_fetch_and_add(&row->zero, 1);
		return;
	}
	bucket = bucket_index(ns) - (DURATION_LOW << DURATION_SCALE);
	if (bucket >= DURATION_BUCKETS)
		bucket = DURATION_BUCKETS - 1; /* longer than 17 s: the sum still has all of it */
	__sync_fetch_and_add(&row->buckets[bucket], 1);
}

#endif
