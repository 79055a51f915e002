//! Real servers, real kernels, real faults.
