// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Durations in the exact buckets of OpenTelemetry's base-2 exponential histogram in seconds: bucket i holds
 * (b^i s, b^(i+1) s], b = 2^(1/4). Integer arithmetic only. src/histogram.rs is the same function in Rust, tested
 * against big integers.
 */
#ifndef BLAMEIO_HISTOGRAM_H
#define BLAMEIO_HISTOGRAM_H

#include "bounds.h"

/* The place in the array of a duration above DURATION_ZERO and up to DURATION_LONG. */
static __always_inline __u32 bucket_of(__u64 ns)
{
	/* From 1024 ns on, each power of two of ns begins within the bucket `first` and ends within the fourth after it. */
	__u32 exponent = 39 - __builtin_clz((__u32)((ns | 1024) >> 8));
	__u32 first = (exponent << DURATION_SCALE) - DURATION_SHIFT;
	__u32 bucket;

	/* Keeps the compiler from computing the places of the bounds apart, where the verifier sees no limit. */
	barrier_var(first);
	if (first > DURATION_BUCKETS - 4)
		return DURATION_BUCKETS - 1;
	bucket = first;
	/* The sign of the difference, because a branch that nobody can predict costs more. */
	bucket += (bounds[first] - ns) >> 63;
	bucket += (bounds[first + 1] - ns) >> 63;
	bucket += (bounds[first + 2] - ns) >> 63;
	bucket += (bounds[first + 3] - ns) >> 63;
	return bucket;
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
	if (ns <= DURATION_ZERO) {
		__sync_fetch_and_add(&row->zero, 1);
		return;
	}
	/* Longer than the last bound: in the last bucket, and the sum still has all of it. */
	bucket = ns > DURATION_LONG ? DURATION_BUCKETS - 1 : bucket_of(ns);
	if (bucket >= DURATION_BUCKETS)
		bucket = DURATION_BUCKETS - 1; /* for the verifier */
	__sync_fetch_and_add(&row->buckets[bucket], 1);
}

#endif
