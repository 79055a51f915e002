//! What tells the points of a row apart.

use blameio_pipeline::{
    ThreadRole,
    attribute::{
        FILE_DEVICE, FILE_GENERATION, FILE_INDEX, FILE_INODE, IO_OPERATION, SYSTEM_DEVICE, THREAD_ID,
        THREAD_ROLE, THREAD_STATE,
    },
    metrics::{PointTime, key_value},
};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{ExponentialHistogramDataPoint, exponential_histogram_data_point::Buckets},
};

use super::{
    disk::DiskKey,
    emit::{integer, seconds},
};
use crate::{DURATION_ZERO_SECONDS, DurationRow, FileId, Operation, PageIndex, ThreadState};

pub(super) type IoKey = (Option<FileId>, PageIndex, u16, Option<u32>, u8, Operation);
pub(super) type ThreadKey = (u32, ThreadState, Option<FileId>, PageIndex);
pub(super) type DurationKey = (FileId, PageIndex, u16, Operation);

pub(super) fn io_attributes((_, index, _, tid, role, operation): &IoKey) -> Vec<KeyValue> {
    let mut attributes = vec![
        key_value(THREAD_ROLE, ThreadRole::from_code(*role).as_str()),
        key_value(IO_OPERATION, operation.as_str()),
    ];
    attributes.extend(index_attribute(*index));
    if let Some(tid) = tid {
        attributes.push(key_value(THREAD_ID, i64::from(*tid)));
    }
    attributes
}

pub(super) fn disk_attributes((_, (index, _, tid, role)): &DiskKey) -> Vec<KeyValue> {
    let mut attributes = vec![key_value(THREAD_ROLE, ThreadRole::from_code(*role).as_str())];
    attributes.extend(index_attribute(*index));
    if let Some(tid) = tid {
        attributes.push(key_value(THREAD_ID, i64::from(*tid)));
    }
    attributes
}

pub(super) fn leaf_attribute(leaf: &str) -> KeyValue {
    key_value(SYSTEM_DEVICE, leaf)
}

pub(super) fn thread_attributes((tid, state, _, index): &ThreadKey) -> Vec<KeyValue> {
    let mut attributes = vec![
        key_value(THREAD_ID, i64::from(*tid)),
        key_value(THREAD_ROLE, ThreadRole::Apply.as_str()),
        key_value(THREAD_STATE, state.as_str()),
    ];
    attributes.extend(index_attribute(*index));
    attributes
}

pub(super) fn duration_attributes((_, index, _, operation): &DurationKey) -> Vec<KeyValue> {
    let mut attributes = vec![key_value(IO_OPERATION, operation.as_str())];
    attributes.extend(index_attribute(*index));
    attributes
}

fn index_attribute(index: PageIndex) -> Option<KeyValue> {
    index.attribute().map(|index| key_value(FILE_INDEX, index))
}

pub(super) fn identity_attributes(file: &FileId) -> Vec<KeyValue> {
    // The kernel's own device number has 20 bits of minor.
    let device = format!("{}:{}", file.device >> 20, file.device & 0xf_ffff);
    vec![
        key_value(FILE_DEVICE, device),
        key_value(FILE_INODE, integer(file.inode)),
        key_value(FILE_GENERATION, i64::from(file.generation)),
    ]
}

pub(super) fn histogram(
    row: &DurationRow,
    attributes: Vec<KeyValue>,
    time: PointTime,
) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano: time.start,
        time_unix_nano: time.at,
        count: row.count,
        sum: Some(seconds(row.sum_ns)),
        scale: row.scale,
        zero_count: row.zero_count,
        zero_threshold: DURATION_ZERO_SECONDS,
        positive: Some(Buckets { offset: row.offset, bucket_counts: row.buckets.clone() }),
        ..ExponentialHistogramDataPoint::default()
    }
}
