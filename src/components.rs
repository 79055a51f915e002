//! The table of everything that can be configured. Whoever adds a component adds one line here.

use blameio_pipeline::Components;

/// Every component of this binary.
pub const COMPONENTS: Components = Components {
    receivers: &[blameio_receiver_ebpf::FILE_IO, blameio_receiver::HEARTBEAT, blameio_receiver::REPLICATION],
    processors: &[blameio_processors::DB_RESOLVER, blameio_processors::LAG_ATTRIBUTION],
    exporters: &[
        blameio_exporters::BLAME_TABLE,
        blameio_exporters::DEBUG,
        blameio_exporters::OTLP_GRPC,
        blameio_exporters::PROMETHEUS,
    ],
    extensions: &[blameio_databases::DATABASE],
};
