//! Who this host is. Knows nothing of the servers on it.

use std::{fs, sync::OnceLock};

use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::{
    attribute::{HOST_ID, HOST_NAME, SERVICE_NAME},
    metrics::key_value,
};

/// The name of this host.
pub fn host_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned())
}

/// The id of this host, where it has one.
pub fn host_id() -> Option<&'static str> {
    static ID: OnceLock<Option<String>> = OnceLock::new();
    ID.get_or_init(|| {
        ["/etc/machine-id", "/var/lib/dbus/machine-id"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .map(|id| id.trim().to_owned())
            .find(|id| !id.is_empty())
    })
    .as_deref()
}

/// The resource of what is the host's and no server's.
pub fn host_resource() -> Resource {
    let mut attributes = vec![key_value(SERVICE_NAME, "blameio"), key_value(HOST_NAME, host_name())];
    attributes.extend(host_id().map(|id| key_value(HOST_ID, id)));
    Resource { attributes, ..Resource::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_no_server() {
        let keys: Vec<_> = host_resource().attributes.into_iter().map(|attribute| attribute.key).collect();
        assert!(keys.contains(&HOST_NAME.to_owned()) && !host_name().is_empty());
        assert!(!keys.contains(&crate::attribute::SERVICE_INSTANCE_ID.to_owned()));
    }
}
