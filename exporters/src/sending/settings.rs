//! The keys `timeout`, `retry_on_failure` and `sending_queue`, with the Collector's defaults and texts.

use std::time::Duration;

use blameio_config::{Diagnostics, Node, Path, choices, settings};

/// A queue of fewer bytes cannot hold an ordinary batch; most likely they were meant to be batches.
const SMALL: usize = 1 << 20;

settings! {
    /// Whether and how often a batch is sent again.
    pub struct RetrySettings {
        /// Whether a failed attempt is repeated at all.
        pub enabled: bool = true,
        /// Time before the first repetition.
        pub initial_interval: Duration = "5s",
        /// Share of an interval by which it is made shorter or longer at random.
        pub randomization_factor: f64 = 0.5,
        /// Factor from one interval to the next.
        pub multiplier: f64 = 1.5,
        /// Longest interval.
        pub max_interval: Duration = "30s",
        /// Time after which a batch is given up; 0 for never.
        pub max_elapsed_time: Duration = "5m",
    }
}

choices! {
    /// What a queue's size counts.
    pub enum Sizer {
        /// Batches.
        Requests = "requests",
        /// Data points, spans or log records.
        Items = "items",
        /// Encoded bytes.
        Bytes = "bytes",
    }
}

settings! {
    /// The queue in front of an exporter.
    pub struct QueueSettings {
        /// Whether there is a queue; without it the pipeline waits for the delivery.
        pub enabled: bool = true,
        /// Batches that are sent at the same time.
        pub num_consumers: usize = 10,
        /// How much is held at most, that being sent included, in what `sizer` counts. A batch is held encoded only,
        /// in some 300 bytes a point: 1000 `requests` of 1,000 points are 300 MiB. `sizer: bytes` bounds the memory.
        pub queue_size: usize = 1000,
        /// What `queue_size` counts: batches (requests), points, spans and log records (items), or encoded bytes
        /// before compression (bytes).
        pub sizer: Sizer = "requests",
        /// Whether a full queue makes the pipeline wait rather than refuse the batch.
        pub block_on_overflow: bool = false,
        /// Whether the pipeline waits until its batch is delivered or given up.
        pub wait_for_result: bool = false,
    }
}

/// All that is put around an exporter's attempt to deliver.
#[derive(Clone, Debug)]
pub struct SendingSettings {
    /// Longest duration of one attempt; zero for no limit.
    pub timeout: Duration,
    /// Repetitions.
    pub retry_on_failure: RetrySettings,
    /// Queue.
    pub sending_queue: QueueSettings,
}

impl Default for SendingSettings {
    /// The Collector's: 5 s for an attempt, retries and a queue.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            retry_on_failure: RetrySettings::default(),
            sending_queue: QueueSettings::default(),
        }
    }
}

impl SendingSettings {
    /// Reports what is wrong with them. `path` is the exporter's and `node` its body.
    pub fn validate(&self, node: &Node, path: &Path, out: &mut Diagnostics) {
        let mut report = |block: &str, wrong: bool, message: &str| {
            if wrong {
                let position = &node.get(block).unwrap_or(node).position;
                out.error(position, &path.key(block), message);
            }
        };
        let retry = &self.retry_on_failure;
        let limited = retry.enabled && !retry.max_elapsed_time.is_zero();
        let (factor, multiplier) = (retry.randomization_factor, retry.multiplier);
        for (wrong, message) in [
            (retry.enabled && !(0.0..=1.0).contains(&factor), "'randomization_factor' must be within [0, 1]"),
            (retry.enabled && (multiplier.is_nan() || multiplier < 0.0), "'multiplier' must be non-negative"),
            (
                limited && retry.max_elapsed_time < retry.initial_interval,
                "'max_elapsed_time' must not be less than 'initial_interval'",
            ),
            (
                limited && retry.max_elapsed_time < retry.max_interval,
                "'max_elapsed_time' must not be less than 'max_interval'",
            ),
        ] {
            report("retry_on_failure", wrong, message);
        }
        let queue = &self.sending_queue;
        for (wrong, message) in [
            (queue.enabled && queue.num_consumers == 0, "`num_consumers` must be positive"),
            (queue.enabled && queue.queue_size == 0, "`queue_size` must be positive"),
        ] {
            report("sending_queue", wrong, message);
        }
        if queue.enabled && queue.sizer == Sizer::Bytes && (1..SMALL).contains(&queue.queue_size) {
            let message =
                "`queue_size` counts bytes, and a batch that is larger is refused: 67108864 is 64 MiB";
            let position = &node.get("sending_queue").unwrap_or(node).position;
            out.warn(position, &path.key("sending_queue"), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use blameio_config::{Decode, parse};

    use super::*;

    fn found(text: &str) -> String {
        let body = parse(text).unwrap();
        let mut out = Diagnostics::new();
        let block = |key| body.get(key).cloned().unwrap_or_else(Node::null);
        let settings = SendingSettings {
            timeout: Duration::ZERO,
            retry_on_failure: RetrySettings::decode(&block("retry_on_failure"), &Path::root(), &mut out)
                .unwrap(),
            sending_queue: QueueSettings::decode(&block("sending_queue"), &Path::root(), &mut out)
                .unwrap_or_default(),
        };
        settings.validate(&body, &Path::root().key("exporters").key("otlp"), &mut out);
        out.to_string()
    }

    #[test]
    fn the_defaults_are_the_collectors_and_valid() {
        assert_eq!(found("{}"), "");
        let retry = RetrySettings::default();
        assert_eq!((retry.initial_interval.as_secs(), retry.max_elapsed_time.as_secs()), (5, 300));
    }

    #[test]
    fn every_sizer_is_valid_and_bytes_that_hold_no_batch_are_warned_about() {
        for text in ["requests", "items", "bytes, queue_size: 67108864"] {
            assert_eq!(found(&format!("sending_queue: {{sizer: {text}}}")), "");
        }
        let warned = found("sending_queue: {sizer: bytes}");
        assert!(warned.contains("warning:") && warned.contains("67108864 is 64 MiB"), "{warned}");
    }

    #[test]
    fn what_is_wrong_is_said_in_the_collectors_words() {
        for (text, expected) in [
            ("sending_queue: {queue_size: 0}", "`queue_size` must be positive"),
            ("sending_queue: {num_consumers: 0}", "`num_consumers` must be positive"),
            ("sending_queue: {sizer: byte}", "'sizer' has an unknown value"),
            ("retry_on_failure: {randomization_factor: 1.5}", "'randomization_factor' must be within [0, 1]"),
            ("retry_on_failure: {multiplier: -1}", "'multiplier' must be non-negative"),
            ("retry_on_failure: {max_elapsed_time: 1s}", "must not be less than 'initial_interval'"),
            ("retry_on_failure: {max_elapsed_time: 10s}", "must not be less than 'max_interval'"),
        ] {
            assert!(found(text).contains(expected), "{text}: {}", found(text));
        }
        assert_eq!(found("sending_queue: {enabled: false, queue_size: 0}"), "");
        assert_eq!(found("retry_on_failure: {enabled: false, max_elapsed_time: 1s}"), "");
        assert_eq!(found("retry_on_failure: {max_elapsed_time: 0}"), "");
    }
}
