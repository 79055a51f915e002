//! Real servers, real kernels, real faults: what the integration tests share.
#![forbid(unsafe_code)]

pub mod bench;
pub mod reference;
pub mod replayed;
pub mod scene;
pub mod soak;
